"""``gaptune cluster``: files of Ray clusters."""

from __future__ import annotations

from pathlib import Path

import click

from gaptune.cli.group import Group
from gaptune.cli.options import LocalPath, config_option
from gaptune.text.output import echo
from gaptune.text.words import counted


@click.group(cls=Group, epilog="Example: gaptune cluster check ray_cluster.yaml")
def cluster() -> None:
    """Check files of Ray clusters."""


@cluster.command("check", epilog="Example: gaptune cluster check ray_cluster.yaml --config coco_rn50")
@click.argument("cluster_file", metavar="FILE", type=LocalPath())
@config_option("Sweep config that the cluster must be able to run.")
def cluster_check(cluster_file: Path, config_file: Path | None) -> int:
    """Find what is missing in FILE, the file of `ray up`, before it starts a machine.

    Finds values that are not filled in, images and packages without a version, workers that never start, commands that
    expand variables of this machine, files that do not exist here, and versions that differ from those here. Prints a
    line for each, and exits with code 2 if there are any.
    """
    from gaptune.deploy import check_cluster
    from gaptune.storage.bundled import find

    found = check_cluster(cluster_file, None if config_file is None else find(config_file, "sweeps"))
    for problem in found:
        echo(str(problem))
    if not found:
        echo(f"{cluster_file}: ready")
        return 0
    echo(f"gaptune: {counted(len(found), 'problem')} in {cluster_file}", err=True)
    return 2

"""``gaptune clean``: free the disk space of ended sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from gaptune.cli.options import SweepName, json_option, results_option
from gaptune.console import make_console
from gaptune.console.json_output import print_json
from gaptune.errors import UserError
from gaptune.ledger import FILE_NAME, in_use, load, read_events, sweep_folder
from gaptune.storage.bundled import EXAMPLES
from gaptune.text.output import echo
from gaptune.text.words import size

if TYPE_CHECKING:
    from gaptune.engine.retention import Freed

Kept = Literal["complete", "front", "none"]


@click.command(epilog="Example: gaptune clean --keep front --yes")
@click.argument("names", metavar="[NAME...]", nargs=-1, type=SweepName(own=True))
@click.option(
    "--keep",
    type=click.Choice(["complete", "front", "none"]),
    default="complete",
    show_default=True,
    help="Trials that keep their weights: complete trials, trials on the front, or none.",
)
@click.option("--yes", is_flag=True, help="Delete the files. Without this option, only print what would be freed.")
@results_option
@json_option
def clean(names: tuple[str, ...], keep: Kept, yes: bool, results: Path, as_json: bool) -> None:
    """Delete checkpoints that ended sweeps no longer need.

    Cleans all sweeps, or those with a NAME. Trials that can be resumed keep their checkpoints. Ledgers, reports, and
    metrics are never deleted.
    """
    folders = [_folder(results, name) for name in names]
    running = [] if names else [path.parent for path in results.glob(f"*/{FILE_NAME}") if in_use(path.parent)]
    if not names:
        folders = [path.parent for path in sorted(results.glob(f"*/{FILE_NAME}")) if path.parent not in running]
    freed = {folder.name: _clean(folder, keep, remove=yes) for folder in folders}
    if as_json:
        rows = [
            {"sweep": name, "optimizer_bytes": one.optimizer, "weights_bytes": one.weights, "kept_bytes": one.kept}
            for name, one in freed.items()
        ]
        print_json({"keep": keep, "removed": yes, "sweeps": rows})
        return
    from gaptune.console.tables import make_table

    headings = ("sweep", "optimizers", "weights", "kept")
    sizes = [(name, size(one.optimizer), size(one.weights), size(one.kept)) for name, one in freed.items()]
    if sizes:
        make_console().print(make_table(headings, sizes, right=headings[1:]))
    for folder in running:
        echo(f"{folder.name} is running and was not cleaned")
    total = sum(one.optimizer + one.weights for one in freed.values())
    if total == 0:
        echo("there is nothing to delete")
    elif yes:
        echo(f"deleted {size(total)}")
    else:
        echo(f"nothing was deleted; the same command with --yes frees {size(total)}")


def _folder(results: Path, name: str) -> Path:
    if name in EXAMPLES and not (results / name / FILE_NAME).exists():
        raise UserError(f"{name!r} is an example sweep, which has no checkpoints to delete")
    folder = sweep_folder(results, name)
    if in_use(folder):
        raise UserError(f"sweep {name!r} is running; clean it when it has ended")
    return folder


def _clean(folder: Path, keep: Kept, *, remove: bool) -> Freed:
    from gaptune.engine.retention import clean as clean_sweep
    from gaptune.storage.folder import Folder

    record = load(folder)
    if any(not damage.torn for damage in read_events(folder)[1]):
        raise UserError(f"the ledger of {folder.name!r} is damaged, so the states of its trials are uncertain")
    storage = record.header.storage
    trials = Folder(f"{storage.rstrip('/')}/{record.name}/trials") if storage else folder / "trials"
    try:
        return clean_sweep(record, trials, keep, remove=remove)
    except OSError as error:
        raise UserError(f"the checkpoints of {folder.name!r} could not be deleted: {error}") from None

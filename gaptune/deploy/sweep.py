"""Whether a cluster can run a sweep: its trials fit on a node, and its paths exist on all machines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gaptune.config import ResourcesConfig
from gaptune.config.document import read_yaml
from gaptune.config.sweep import load_sweep_config
from gaptune.deploy.file import ClusterFile
from gaptune.engine.placement import Machine, describe, fitting
from gaptune.engine.shared_paths import check_full_paths
from gaptune.errors import UserError
from gaptune.storage.folder import is_url


def sweep_problems(file: ClusterFile, path: Path) -> Iterator[UserError]:
    """What keeps a sweep from running on the cluster.

    Args:
        file: The cluster file.
        path: Path of the sweep config.

    Raises:
        UserError: The sweep config is invalid.
    """
    sweep, document = load_sweep_config(path), read_yaml(path)
    machines = [kind.get("resources") or {} for _, kind in file.workers() if kind.get("max_workers", 1)]
    if machines and all(machines):  # Ray knows what other machines have only when they have started
        resources = _with_number_of_gpus(sweep.resources, machines)
        if not any(fitting(resources, machine) for machine in machines):
            has = " or ".join(_described(machine) for machine in machines)
            what = (
                f"resources: each trial needs {describe(resources)}, and no type of worker of {file.document.path} has"
            )
            yield document.error(f"{what} that ({has})", ("resources",))
    try:
        check_full_paths(sweep, str(file.document.path))
    except UserError as error:
        yield document.error(error.message, error.message.partition(": ")[0].split(".")[0].split()[:1])
    storage = sweep.storage or os.environ.get("GAPTUNE_STORAGE")
    if storage and not is_url(storage) and not Path(storage).is_absolute():
        yield document.error(f"storage: {storage} is a relative path; write a full path or a URL", ("storage",))
    if any(str(place).startswith("s3://") for place in (storage, sweep.data.store)) and file.provider == "aws":
        for name, _ in file.workers():
            config = ("available_node_types", name, "node_config")
            if file.get(*config, "IamInstanceProfile") is None:
                what = "no IamInstanceProfile: this worker cannot read s3://; see deploy/aws/README.md"
                yield file.problem(what, *config)


def _with_number_of_gpus(resources: ResourcesConfig, machines: list[Machine]) -> ResourcesConfig:
    """Resources of a trial, with what ``auto`` becomes on these machines."""
    if resources.gpu != "auto":
        return resources
    return resources.model_copy(update={"gpu": float(any(machine.get("GPU") for machine in machines))})


def _described(machine: Machine) -> str:
    return ", ".join(f"{number} {name}" for name, number in machine.items())

"""Types of nodes: a head that would train, workers that can never come or never take a trial."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gaptune.deploy.file import ClusterFile
from gaptune.errors import UserError, did_you_mean

_TYPES = "available_node_types"
_AMAZON = re.compile(r"(?P<family>[a-z][\w-]*)\.(?P<times>\d*)x?(?P<size>large)")
_WITH_GPUS = re.compile(r"(g\d|gr\d|p\d)")


def node_problems(file: ClusterFile) -> Iterator[UserError]:
    """What is wrong with the types of nodes; own machines have none."""
    if file.provider == "local":
        return
    yield from _head_problems(file)
    workers = dict(file.workers())
    most = file.get("max_workers")
    if most is None:
        yield file.problem("max_workers is missing: Ray would start at most 2 workers; write max_workers: 8")
    if most == 0:
        yield file.problem("0: no worker ever starts; write the largest number of workers", "max_workers")
    if not workers:
        yield file.problem("no type of worker; add one beside the head", _TYPES)
    elif all(kind.get("max_workers") == 0 for kind in workers.values()):
        yield file.problem("max_workers is 0 for each type of worker: none ever starts", _TYPES)
    least = sum(int(kind.get("min_workers") or 0) for kind in file.mapping(_TYPES).values())
    if isinstance(most, int) and least > most:
        yield file.problem(f"{most}, but the types of nodes need at least {least} (min_workers)", "max_workers")
    for name, kind in workers.items():
        yield from _worker_problems(file, name, kind)


def _head_problems(file: ClusterFile) -> Iterator[UserError]:
    types = file.mapping(_TYPES)
    if not types:
        yield file.problem(f"{_TYPES} is missing: Ray would start machines of its own choice")
    elif file.head not in types:
        yield file.problem(f"{file.head!r} is no type of node{did_you_mean(file.head, types)}", "head_node_type")
    else:
        where = (_TYPES, file.head, "resources")
        resources = file.mapping(*where)
        if "CPU" not in resources:
            yield file.problem("no CPU: the head would get all its cores and train; write {CPU: 0}", *where)
        for kind in ("CPU", "GPU"):
            if resources.get(kind):
                what = f"{resources[kind]}: the head would train, and run out of memory with the sweep; write 0"
                yield file.problem(what, *where, kind)


def _worker_problems(file: ClusterFile, name: str, kind: dict[str, Any]) -> Iterator[UserError]:
    where = (_TYPES, name)
    least, most = kind.get("min_workers"), kind.get("max_workers")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield file.problem(f"min_workers {least} is more than max_workers {most}", *where, "min_workers")
    resources = file.mapping(*where, "resources")
    if resources.get("CPU") == 0:
        yield file.problem("0: no trial fits, each needs a CPU; write the number of cores", *where, "resources", "CPU")
    found = _AMAZON.match(str(file.get(*where, "node_config", "InstanceType") or ""))
    if file.provider != "aws" or found is None:
        return
    machine = file.get(*where, "node_config", "InstanceType")
    cores = 4 * int(found["times"] or 1) if "xlarge" in machine else 2
    if resources.get("CPU", 0) > cores:
        what = f"{resources['CPU']}, but {machine} has {cores} cores; write CPU: {cores}"
        yield file.problem(what, *where, "resources", "CPU")
    if resources and bool(resources.get("GPU")) != bool(_WITH_GPUS.match(found["family"])):
        has = "has no GPU" if resources.get("GPU") else "has GPUs, and resources has none; write GPU: 1, or more"
        yield file.problem(f"{machine} {has}", *where, "resources")

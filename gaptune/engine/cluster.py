"""Ray itself: started on this machine and ended again, or joined elsewhere; and what fits on it."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from gaptune.config import ResourcesConfig
from gaptune.engine.address import check_address
from gaptune.engine.machine import OBJECT_STORE, available_cores, check_local, describe, ray_folders
from gaptune.engine.signals import Stop, Stopped
from gaptune.errors import UserError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

_OF_OTHER_CLUSTERS = (
    "RAY_ADDRESS",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_NAMESPACE",
    "RAY_OVERRIDE_LABELS",
    "RAY_OVERRIDE_RESOURCES",
    "RAY_REDIS_ADDRESS",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_WORKER_PROCESS_SETUP_HOOK",
)
_OF_NOTEBOOKS = ("MPLBACKEND",)  # a backend that only the notebook's own process has

_GRACE_S = 1.0
"""How long Ray may take to say goodbye before its processes are killed."""

_START_S = 120.0
"""How long Ray may take to start, on a machine however busy."""

_ours = False
_deaf_children = False


def _after_fork() -> None:
    if _deaf_children:  # what is blocked stays so through exec
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})


os.register_at_fork(after_in_child=_after_fork)


def check_place(resources: ResourcesConfig, address: str | None) -> None:
    """Checks that trials can run where they are to run. Starts nothing.

    Args:
        resources: What each trial gets.
        address: Of a running cluster; None, nothing or ``local`` for this machine.

    Raises:
        UserError: No cluster answers there, or a trial needs what no machine of it has or will have.
    """
    if (place := _cluster(address)) is None:
        check_local(resources)
    else:
        _check_placement(resources, check_address(place), place)


@contextmanager
def ray_for(resources: ResourcesConfig, address: str | None, stop: Stop | None = None) -> Iterator[None]:
    """A context with Ray: as the program around has started it, or else one that ends with the context.

    Args:
        resources: What each trial gets; Ray is started on this machine for as many trials as should run side by side.
        address: Of a running cluster; None, nothing or ``local`` for this machine.
        stop: Who hears signals, which Ray takes for itself as it starts.

    Raises:
        UserError: No cluster answers there, Ray cannot be started, or a trial needs what no machine has or will have.
    """
    place = _cluster(address)
    if is_running():
        import ray

        _check_placement(resources, [node["Resources"] for node in ray.nodes() if node["Alive"]], place)
        yield
        return
    check_place(resources, place)
    with _started(resources, place, stop or Stop()):
        yield


def is_ours() -> bool:
    """Whether gaptune has started the Ray that runs, which then ends with the sweep."""
    return _ours


def side_by_side(resources: ResourcesConfig) -> int:
    """How many trials Ray can run at once, at most as many as the sweep allows.

    Where a cluster grows by itself, that is what the sweep allows, or what fits at the moment if it does not say.
    """
    import ray

    have = ray.cluster_resources()
    fitting = int(have.get("CPU", 0.0) // resources.cpu)
    if resources.gpu:
        fitting = min(fitting, int(have.get("GPU", 0.0) / resources.gpu))
    if resources.concurrency and ("KUBERNETES_SERVICE_HOST" in os.environ or _kinds_to_come()):
        return resources.concurrency
    return max(1, min(fitting, resources.concurrency or fitting))


def _cluster(address: str | None) -> str | None:
    """The address of a cluster, if one is meant rather than this machine."""
    address = (address or "").strip()
    return None if address in ("", "local") else address


def is_running() -> bool:
    """Whether the program around has started Ray; looked up without importing it."""
    asked = getattr(sys.modules.get("ray"), "is_initialized", None)  # not there while another thread imports it
    return asked is not None and bool(asked())


@contextmanager
def _started(resources: ResourcesConfig, place: str | None, stop: Stop) -> Iterator[None]:
    global _ours
    import ray

    # Not by the environment, which is read as Ray is imported: the program around may have done that.
    constants = ray._private.ray_constants
    constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False  # trials run in this environment, not in one that uv makes again
    constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True  # it takes SIGTERM from the program, and prints a C++ stack
    log = logging.getLogger("ray")
    level = log.level
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "job_config": _job()}
    try:
        if place is None:
            _bring_token()
            with ray_folders() as folders, _ended():
                cores = available_cores() // resources.cpu * resources.cpu
                wanted = min(cores, (resources.concurrency or cores) * resources.cpu)
                options = {"num_cpus": wanted, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
                with _without(_OF_OTHER_CLUSTERS + _OF_NOTEBOOKS), _deaf():
                    _init("Ray cannot be started on this machine", "local", **options, **folders, **quiet)
                stop.listen()
                _ours = True
                yield
        else:
            with _ended():
                _init(f"no Ray cluster at {place}", place, **quiet)
                stop.listen()
                yield
    finally:
        _ours = False
        log.setLevel(level)


def _init(trouble: str, address: str, **options: Any) -> None:
    import ray

    giving_up = threading.Timer(_START_S, lambda: _kill(_ray_processes()))  # Ray's own waiting may have no end
    giving_up.daemon = True
    giving_up.start()
    try:
        ray.init(address, **options)
    except SystemExit as error:  # by the handler that Ray has put in the place of ours
        if error.code == signal.SIGTERM:
            raise Stopped(signal.SIGTERM) from None
        raise
    except Exception as error:  # of whatever kind
        raise UserError(f"{trouble}: {' '.join(str(error).split())}") from None
    finally:
        giving_up.cancel()


@contextmanager
def _ended() -> Iterator[None]:
    """A context after which Ray is no more in this process, and its processes are gone, however far its start came."""
    import ray

    try:
        yield
    finally:
        processes = _ray_processes()
        killing = threading.Timer(_GRACE_S, _kill, [processes])  # they are deaf to being asked, and a worker may hang
        killing.start()
        ray.shutdown()
        killing.cancel()
        _kill(processes)
        psutil.wait_procs(processes, timeout=_GRACE_S)


@contextmanager
def _deaf() -> Iterator[None]:
    """A context whose children, Ray's processes, do not hear SIGTERM and SIGHUP.

    Slurm, systemd and a terminal that closes send them to all processes at once. A driver whose Ray has gone first
    hangs in its next call of it; so this process alone hears them, and ends Ray when it is ready.
    """
    global _deaf_children
    _deaf_children = True
    try:
        yield
    finally:
        _deaf_children = False


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def _ray_processes() -> list[psutil.Process]:
    """Ray's processes below this one."""
    folder = str(Path(importlib.util.find_spec("ray").origin or "").parent)  # type: ignore[union-attr]  # it is there
    found = []
    for child in psutil.Process().children():
        try:
            words = child.cmdline()
            if any(folder in word or word.startswith("ray::") for word in words):
                found += [child, *child.children(recursive=True)]
        except psutil.Error:  # it has ended
            continue
    return found


def _bring_token() -> None:
    """Gives Ray's processes a token to know each other by, where Ray cannot keep one in the home folder."""
    given = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    kept = Path.home() / ".ray"
    if not given and not os.access(kept if kept.exists() else kept.parent, os.W_OK | os.X_OK):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """A context in which some variables are not in the environment, for Ray's processes to inherit none of them."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _job() -> Any:
    """Ray's description of this job.

    Ray puts this process's working folder, and the folder of its script, before everything else on its workers' paths,
    where a file named as a library would take the library's place. Workers need gaptune only.
    """
    from ray.job_config import JobConfig

    root = Path(__file__).parents[2]
    folders = [] if _found_anyway(root) else [str(root)]

    class Job(JobConfig):  # type: ignore[misc]  # ray is untyped
        def _serialize(self) -> Any:
            self._py_driver_sys_path = folders
            return super()._serialize()

    return Job()


def _found_anyway(root: Path) -> bool:
    """Whether a Python that starts here, without the working folder on its path, finds this gaptune."""
    ask = "import importlib.util as u; found = u.find_spec('gaptune'); print(found.origin if found else '')"
    done = subprocess.run([sys.executable, "-P", "-c", ask], capture_output=True, text=True)
    return Path(done.stdout.strip()) == root / "gaptune" / "__init__.py"


def _check_placement(resources: ResourcesConfig, machines: Sequence[dict[str, float]], place: str | None) -> None:
    """Refuses trials that no machine can ever take: Ray would wait for one for ever.

    On Kubernetes nobody can tell here what the operator may still start, so nothing is refused.
    """
    if place is not None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return
    if any(_fits(resources, machine) for machine in (*machines, *_kinds_to_come())):
        return
    largest = [max((machine.get(kind, 0.0) for machine in machines), default=0.0) for kind in ("CPU", "GPU")]
    where = "this machine" if place is None else f"a machine of the cluster at {place}"
    raise UserError(
        f"each trial needs {describe(resources)} on one machine; {where} has at most {largest[0]:g} CPU and "
        f"{largest[1]:g} GPU, and no larger one is to come; see resources.cpu and resources.gpu"
    )


def _fits(resources: ResourcesConfig, machine: dict[str, float]) -> bool:
    return machine.get("CPU", 0.0) >= resources.cpu and machine.get("GPU", 0.0) >= resources.gpu


def _kinds_to_come() -> list[dict[str, float]]:
    """The machines that an autoscaler may still start, as ``ray up`` leaves them on the head."""
    config = Path.home() / "ray_bootstrap_config.yaml"
    if not config.exists():
        return []
    kinds = yaml.safe_load(config.read_text(encoding="utf-8")).get("available_node_types", {}).values()
    return [kind.get("resources") or {"CPU": math.inf, "GPU": math.inf} for kind in kinds if kind.get("max_workers", 1)]

"""Ray: started and ended on this machine, or joined elsewhere; and how many trials fit on it."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from gaptune.config import ResourcesConfig
from gaptune.engine.address import check_address
from gaptune.engine.autoscaler import autoscales
from gaptune.engine.machine import OBJECT_STORE, available_cores, available_gpus, ray_folders
from gaptune.engine.placement import Place, trials_at_once
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
_FOR_RAY = {"RAY_prestart_worker_first_driver": "0"}  # no idle workers: those of trials are others

_GRACE_S = 1.0
"""Seconds that this process gets to leave Ray before Ray's processes are killed, and they then to be gone."""

_START_S = 120.0
"""Seconds that Ray may take to start, also on a busy machine."""

_ours = False
_block_in_children = False


def _after_fork() -> None:
    if _block_in_children:  # what is blocked stays so through exec
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})


os.register_at_fork(after_in_child=_after_fork)


def place_of(resources: ResourcesConfig, address: str | None) -> Place:
    """The machines that run the trials of a sweep. Starts nothing.

    Args:
        resources: Resources of each trial.
        address: Address of a running cluster; None, an empty string or ``local`` for this machine.

    Raises:
        UserError: No cluster answers there.
    """
    place = _cluster(address)
    if is_running():  # it reports its own resources
        import ray

        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return Place.of_ray(place, machines, autoscales=autoscales())
    if place is None:
        return Place.local(resources.gpu)
    found = check_address(place)
    return Place.of_ray(place, found.nodes, autoscales=found.autoscales)


@contextmanager
def ray_for(resources: ResourcesConfig, address: str | None, stop: Stop | None = None) -> Iterator[None]:
    """A context with Ray: the one that the surrounding program has started, or one that ends with the context.

    Args:
        resources: Resources of each trial, which ``place_of`` has been found to have; Ray is started with enough of
            them for the trials that run in parallel.
        address: Address of a running cluster, at which ``place_of`` has just found one; None, an empty string or
            ``local`` for this machine.
        stop: Handler of signals, which is installed again after Ray has replaced it.

    Raises:
        UserError: No cluster answers there, or Ray cannot be started.
    """
    if is_running():
        yield
        return
    with _started(resources, _cluster(address), stop or Stop()):
        yield


def is_ours() -> bool:
    """Whether gaptune started the running Ray, which then ends with the sweep."""
    return _ours


class SideBySide(NamedTuple):
    """How many trials run in parallel.

    Attributes:
        most: The number.
        full: Whether no more could run, so that a further trial may wait without ever exceeding the number.
    """

    most: int
    full: bool


def side_by_side(resources: ResourcesConfig) -> SideBySide:
    """How many trials Ray can run in parallel, at most as many as the sweep allows.

    On a cluster that scales automatically it is what the sweep allows: its autoscaler starts nodes for trials that
    wait. It is what fits now if the sweep sets no limit.
    """
    import ray

    fit = trials_at_once(resources, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    if resources.concurrency and ("KUBERNETES_SERVICE_HOST" in os.environ or autoscales()):
        return SideBySide(resources.concurrency, full=False)
    most = max(1, min(fit, resources.concurrency or fit))
    return SideBySide(most, full=fit <= most)


def _cluster(address: str | None) -> str | None:
    """The address of a cluster; None for this machine."""
    address = (address or "").strip()
    return None if address in ("", "local") else address


def is_running() -> bool:
    """Whether the surrounding program has started Ray; checked without importing Ray."""
    asked = getattr(sys.modules.get("ray"), "is_initialized", None)  # missing while another thread imports Ray
    return asked is not None and bool(asked())


@contextmanager
def _started(resources: ResourcesConfig, place: str | None, stop: Stop) -> Iterator[None]:
    global _ours
    import ray

    # Not by the environment, which Ray reads at import: the surrounding program may have imported it.
    constants = ray._private.ray_constants
    constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False  # trials run in this environment, not in a copy that uv makes
    constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True  # it would replace our SIGTERM handler, and print a C++ stack
    log = logging.getLogger("ray")
    level = log.level
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "job_config": _job()}
    try:
        if place is None:
            _bring_token()
            with ray_folders() as folders, _ended():
                cores = available_cores() // resources.cpu * resources.cpu
                wanted = min(cores, (resources.concurrency or cores) * resources.workers * resources.cpu)
                gpus = available_gpus() if resources.gpus else 0  # Ray would count those of the driver, also MIG's
                options = {"num_cpus": wanted, "num_gpus": gpus, "object_store_memory": OBJECT_STORE, **folders}
                with _environment(_FOR_RAY, without=_OF_OTHER_CLUSTERS + _OF_NOTEBOOKS), _signals_blocked_in_children():
                    trouble = "Ray cannot be started on this machine"
                    _init(trouble, "local", include_dashboard=False, **options, **quiet)
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

    others = _ray_processes()
    # Ray itself may wait forever.
    giving_up = threading.Timer(_START_S, lambda: _kill([each for each in _ray_processes() if each not in others]))
    giving_up.daemon = True
    giving_up.start()
    try:
        ray.init(address, **options)
    except SystemExit as error:  # raised by the handler with which Ray has replaced ours
        if error.code == signal.SIGTERM:
            raise Stopped(signal.SIGTERM) from None
        raise
    except Exception as error:  # Ray raises many kinds
        raise UserError(f"{trouble}: {' '.join(str(error).split())}") from None
    finally:
        giving_up.cancel()


@contextmanager
def _ended() -> Iterator[None]:
    """A context after which Ray is shut down and its processes are gone, even if its start failed halfway.

    Ray processes that the program around has started before are not ours, and stay.
    """
    import ray

    others = _ray_processes()
    try:
        yield
    finally:
        processes = [process for process in _ray_processes() if process not in others]
        killing = threading.Thread(target=_kill_when_left, args=[processes])
        killing.start()
        ray.shutdown()
        killing.join()
        _wait_for(processes)


@contextmanager
def _signals_blocked_in_children() -> Iterator[None]:
    """A context in which child processes, those of Ray, start with SIGTERM and SIGHUP blocked.

    Slurm, systemd and a closing terminal send these signals to all processes at once. If Ray ended first, the driver
    would hang in its next call; so only this process reacts to them, and ends Ray when it is ready.
    """
    global _block_in_children
    _block_in_children = True
    try:
        yield
    finally:
        _block_in_children = False


def _kill_when_left(processes: Sequence[psutil.Process]) -> None:
    """Kills Ray's processes once this one has left them: they ignore SIGTERM, and Ray would wait a second for each."""
    import ray

    deadline = time.monotonic() + _GRACE_S
    while hasattr(ray._private.worker.global_worker, "core_worker") and time.monotonic() < deadline:
        time.sleep(0.01)
    _kill(processes)


def _wait_for(processes: Sequence[psutil.Process]) -> None:
    """Waits until killed processes run no more.

    Ray's own children stay zombies until the first process of a container reaps them, which may be never.
    """
    deadline = time.monotonic() + _GRACE_S
    while time.monotonic() < deadline:
        _, processes = psutil.wait_procs(processes, timeout=0)
        with suppress(psutil.NoSuchProcess):
            if all(process.status() == psutil.STATUS_ZOMBIE for process in processes):
                return
        time.sleep(0.01)


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
    """Gives Ray's processes a shared token if Ray cannot keep one in the home directory."""
    given = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    kept = Path.home() / ".ray"
    if not given and not os.access(kept if kept.exists() else kept.parent, os.W_OK | os.X_OK):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _environment(variables: Mapping[str, str], *, without: Sequence[str]) -> Iterator[None]:
    """A context with some environment variables, and without others, for Ray's processes, which inherit them."""
    kept = {name: os.environ.pop(name) for name in (*variables, *without) if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(kept)


def _job() -> Any:
    """Ray's description of this job.

    Ray puts this process's working directory, and that of its script, first on its workers' import paths, where a file
    named like a library would shadow it. Workers need gaptune only.
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
    """Whether a new Python process finds this gaptune without the working directory on its path."""
    ask = "import importlib.util as u; found = u.find_spec('gaptune'); print(found.origin if found else '')"
    done = subprocess.run([sys.executable, "-P", "-c", ask], capture_output=True, text=True)
    return Path(done.stdout.strip()) == root / "gaptune" / "__init__.py"

"""What all tests share: one cache for the embedded data, and real data sets where they are to be had."""

import os
import shutil
import signal
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import settings
from mlflow_tables import TABLES, copy_tables
from support import SMALL, make_features
from warm import WORKERS, workers_are_warm

_EXAMPLES = 100 if os.environ.get("GAPTUNE_SOAK") == "full" else 25
# Without a deadline: what is slow on a busy machine is not wrong.
settings.register_profile("gaptune", deadline=None, max_examples=_EXAMPLES)
settings.load_profile("gaptune")
# Ray's workers step back for others by default, and then stand still while the tests that compute run beside theirs.
os.environ.setdefault("RAY_worker_niceness", "0")
# Trials have workers of their own; Ray would start others for whoever joins it, a second of computing each.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")


ABSENT = str(Path(__file__).with_name("absent"))
"""Goes before what is installed in processes that tests start, and only there."""

if ABSENT not in os.environ.get("PYTHONPATH", ""):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ABSENT, os.environ.get("PYTHONPATH")]))
sys.path[:] = [folder for folder in sys.path if folder != ABSENT]

WHOLE = {"browser", "ray_address", "two_nodes", "short"}
"""Fixtures of tests that are more than a unit."""

# A shell's background has SIGINT ignored, nohup SIGHUP, and children inherit that: signals are tested as on a terminal.
for _signum, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, _handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One more than there are cores: tests of whole sweeps mostly wait, for Ray, for servers, for kills.

    Units compute, and each process imports torch and MLflow for them anew.
    """
    return min(os.cpu_count() + (config.option.markexpr != "not whole"), 6)


def pytest_collection_modifyitems(items):
    """Marks what uses Ray, a browser or a training. Files that take long come first, not when the others have ended."""
    longest = {}
    for item in items:
        if WHOLE.intersection(item.fixturenames) or any(map(item.get_closest_marker, ("slow", "soak"))):
            item.add_marker("whole")
        length = 2 if item.get_closest_marker("slow") or item.get_closest_marker("soak") else 1
        longest[item.path] = max(longest.get(item.path, 0), length if item.get_closest_marker("whole") else 0)
    items.sort(key=lambda item: -longest[item.path])


@pytest.fixture(scope="module")
def local_ray(ray_address):
    """Ray for the sweeps of a module, as if the program around had joined it."""
    from gaptune.config import ResourcesConfig
    from gaptune.engine.cluster import ray_for

    with ray_for(ResourcesConfig(gpu=0, concurrency=2), ray_address):
        yield


@pytest.fixture(scope="session", autouse=True)
def gaptune_cache(tmp_path_factory):
    """The environment, not a monkeypatch: subprocesses and Ray's workers inherit it. One for a whole run."""
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    (folder / "cache").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TABLES, str(folder / "tables.db"))
        if "GAPTUNE_CACHE" not in os.environ:
            patch.setenv("GAPTUNE_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="session")
def mlflow_tables():
    """For tests that create stores in this process."""
    copy_tables()


@pytest.fixture(scope="session")
def ray_address(gaptune_cache, mlflow_tables):
    """A Ray of two cores for every test that does not look at how Ray is started; starting it takes seconds.

    It is no part of this process: who uses it joins it, as one joins any cluster.
    """
    from ray.cluster_utils import Cluster

    from gaptune.engine.machine import OBJECT_STORE

    workers_are_warm()
    node = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": OBJECT_STORE, **WORKERS}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory, mlflow_tables):
    """MLflow's SQLite file without anything in it: making one is a second of computing."""
    from gaptune.tracking import Mirror, default_uri
    from gaptune.tracking.mirror import open_client

    folder = tmp_path_factory.mktemp("store")
    Mirror(None, folder)
    open_client(default_uri(folder))
    return folder / "mlflow.db"


@pytest.fixture
def gaptune(capsys, monkeypatch):
    """Runs the command line in this process; gives its exit code, output and errors."""
    from gaptune.cli import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["gaptune", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def small_store(tmp_path_factory):
    """The folder of a small store of scenes."""
    from gaptune.data.scenes import make_scenes

    return make_scenes(tmp_path_factory.mktemp("data") / "small", SMALL).path


@pytest.fixture(scope="session")
def small_features(tmp_path_factory):
    """The folder of a small store of features."""
    return make_features(tmp_path_factory.mktemp("data") / "features").path


@pytest.fixture(scope="session")
def flickr8k(tmp_path_factory):
    """The unpacked folder of Flickr8k: COCO captions files, and photographs at 128 x 128."""
    return _unpacked("flickr8k", tmp_path_factory)


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory):
    """The unpacked folder of a part of CIFAR-10: train and test, a folder of images for each class."""
    return _unpacked("cifar10", tmp_path_factory)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; a module's own, since Playwright's loop is in the way of others."""
    from playwright import sync_api

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    flags = ["--no-sandbox", "--enable-unsafe-swiftshader", "--disable-background-networking", "--disable-extensions"]
    flags += ["--disable-gpu-rasterization", "--disable-gpu-compositing", "--disable-component-update"]  # all of it is
    flags += ["--disable-features=Translate,OptimizationHints,MediaRouter"]  # computed by the CPU
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=flags)
        yield running
        running.close()


def _unpacked(name, tmp_path_factory):
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    archive = Path(os.environ.get("GAPTUNE_TEST_DATA", beside)) / f"{name}.tar"
    if not archive.exists():
        pytest.skip(f"there is no {name}.tar; GAPTUNE_TEST_DATA names the folder that holds it")
    folder = tmp_path_factory.mktemp("data")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / name

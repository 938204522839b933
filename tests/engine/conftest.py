import pytest
import ray
from support import SMALL

from gaptune.data.scenes import make_scenes


@pytest.fixture(scope="session")
def small_store(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("data") / "small", SMALL).path


@pytest.fixture(scope="module")
def local_ray():
    """One Ray for the sweeps of a module: starting it takes seconds."""
    from gaptune.config import Resources
    from gaptune.engine.cluster import start_ray

    start_ray(Resources(concurrency=2), None)
    yield
    ray.shutdown()

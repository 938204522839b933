import pytest
import ray


@pytest.fixture(scope="module")
def local_ray():
    """One Ray for the sweeps of a module: starting it takes seconds."""
    from gaptune.config import Resources
    from gaptune.engine.cluster import start_ray

    start_ray(Resources(concurrency=2), None)
    yield
    ray.shutdown()

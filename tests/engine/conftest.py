import pytest


@pytest.fixture(scope="module")
def local_ray():
    """One Ray for the sweeps of a module, as if the program around had started it: starting it takes seconds."""
    from gaptune.config import Resources
    from gaptune.engine.cluster import ray_for

    with ray_for(Resources(concurrency=2), None):
        yield

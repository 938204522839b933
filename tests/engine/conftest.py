import pytest


@pytest.fixture(scope="module")
def local_ray(ray_address):
    """Ray for the sweeps of a module, as if the program around had joined it."""
    from gaptune.config import Resources
    from gaptune.engine.cluster import ray_for

    with ray_for(Resources(concurrency=2), ray_address):
        yield

"""Trials on GPUs that exist only for Ray: where Ray puts them, and what they do without a card."""

import io
import os
import time

import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from rich.console import Console
from support import write_yaml
from warm import WORKERS, workers_are_warm

from gaptune.config import ResourcesConfig, load_sweep_config
from gaptune.console.live import Display
from gaptune.engine.cluster import place_of, ray_for, side_by_side
from gaptune.engine.machine import OBJECT_STORE
from gaptune.engine.plan import prepare
from gaptune.engine.session import run
from gaptune.engine.trainer import take_device
from gaptune.ledger import State, read_events
from gaptune.space.parse import load_space
from gaptune.trial.device import NoGpuError

MIG = ("MIG-0f5a77c1-9d10-5b1c-a3f2-000000000001", "MIG-0f5a77c1-9d10-5b1c-a3f2-000000000002")

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU"),
]


@pytest.fixture(scope="module", autouse=True)
def _pretended(gaptune_cache):
    """A Ray of seven cores and two MIG devices that do not exist."""
    workers_are_warm()
    node = {"num_cpus": 7, "num_gpus": 2, "include_dashboard": False, "object_store_memory": OBJECT_STORE, **WORKERS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", ",".join(MIG))
        cluster = Cluster(initialize_head=True, head_node_args=node)
    with ray_for(ResourcesConfig(gpu=1), cluster.address):
        yield
    cluster.shutdown()


def sweep(folder, store, more=""):
    space, config = write_yaml(folder, store, trials=2, epochs=1, more=more)
    told, out = {"name": "s", "results": folder / "results", "now": time.time(), "command": ""}, io.StringIO()
    plan = prepare(load_space(space), load_sweep_config(config), **told)
    with Display(Console(file=out, width=400)) as display:
        record = run(plan, display=display, results=told["results"], tracking_uri=None, address=None, clock=time.time)
    sessions = [event for event in read_events(plan.folder)[0] if event["event"] == "session"]
    return record, out.getvalue(), sessions[-1]


def test_ray_puts_three_trials_of_a_third_on_each_gpu_as_the_plan_says():
    class Holder:
        def card(self):
            return os.environ["CUDA_VISIBLE_DEVICES"]

    resources = ResourcesConfig(gpu=0.3)
    assert side_by_side(resources) == (6, True)
    holders = [ray.remote(num_cpus=1, num_gpus=0.3)(Holder).remote() for _ in range(7)]
    asked = [holder.card.remote() for holder in holders]
    held, waiting = ray.wait(asked, num_returns=6)
    assert not ray.wait(waiting, timeout=0.3)[0]
    assert sorted(ray.get(held)) == [MIG[0]] * 3 + [MIG[1]] * 3
    for holder in holders:
        ray.kill(holder)


def test_a_process_sees_the_gpu_that_it_was_given_or_none():
    def with_none():
        return os.environ["CUDA_VISIBLE_DEVICES"], take_device(0), os.environ["CUDA_VISIBLE_DEVICES"]

    before, device, after = ray.get(ray.remote(num_cpus=1)(with_none).remote())
    assert before == ",".join(MIG)  # Ray hides nothing from who asks for no GPU
    assert (device, after) == ("cpu", "")
    with pytest.raises(NoGpuError, match=r"Found no NVIDIA driver on your system|is built for CPUs only"):
        ray.get(ray.remote(num_cpus=1, num_gpus=0.5)(take_device).remote(0.5))


def test_a_sweep_whose_trials_cannot_use_their_gpu_stops_and_resumes_elsewhere(tmp_path, small_features):
    assert place_of(ResourcesConfig(), None).assign(ResourcesConfig(), "auto").to_measure
    record, text, session = sweep(tmp_path, small_features, "resources: {lanes: 1}\n")
    assert "measuring how many trials can share a GPU" in text
    assert "each trial gets 1 CPU, 1 GPU (auto: this machine has 2 GPUs; not measured: Found no" in text
    assert session["gpu"] == 1.0
    assert record.paused.startswith("trial ")
    assert " cannot use its GPU on " in record.paused
    assert not any(trial.state.ended or trial.retries for trial in record.trials.values())
    assert record.header.config["resources"]["gpu"] == "auto"

    record, text, session = sweep(tmp_path, small_features, "resources: {gpu: 0}\n")
    assert "each trial gets 1 CPU, no GPU" in text
    assert (session["gpu"], record.gpus) == (0.0, 0.0)
    assert [trial.state for trial in record.trials.values()] == [State.COMPLETE] * 2

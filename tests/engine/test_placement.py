"""How many GPUs each trial gets, and how many trials fit, on machines that exist only as numbers."""

import math

import pytest

from gaptune.config import ResourcesConfig, TrialConfig
from gaptune.engine import machine, placement
from gaptune.engine.placement import Place, fitting, memory_fraction, trials_per_gpu, with_device
from gaptune.errors import UserError

GIB = 2**30
HEAD, CPUS, GPUS = {"CPU": 2.0}, {"CPU": 8.0}, {"CPU": 16.0, "GPU": 2.0}
CLUSTER = "the cluster at 10.0.0.5:6379"


@pytest.fixture(autouse=True)
def _no_autoscaler(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def here(cpu=2, gpu=0, problem=None):
    return Place("this machine", [{"CPU": cpu, "GPU": gpu}], problem=problem)


def resources(gpu="auto", **more):
    return ResourcesConfig(gpu=gpu, **more)


@pytest.mark.parametrize(
    ("place", "gpus", "told"),
    [
        (here(problem="this machine has no GPU"), 0, "no GPU (auto: this machine has no GPU)"),
        (here(problem="The driver is too old"), 0, "no GPU (auto: The driver is too old)"),
        (here(gpu=1), 1, "at most 1 GPU (auto: this machine has 1 GPU; how many trials share a GPU is measured"),
        (Place(CLUSTER, [HEAD, GPUS, GPUS]), 1, f"at most 1 GPU (auto: {CLUSTER} has 4 GPUs; how many"),
        (Place(CLUSTER, [HEAD], [GPUS]), 1, f"at most 1 GPU (auto: {CLUSTER} can start machines with GPUs; how many"),
        (Place(CLUSTER, [HEAD, CPUS]), 0, f"no GPU (auto: {CLUSTER} has no GPU)"),
        (Place(CLUSTER, [HEAD], [{"CPU": math.inf, "GPU": math.inf}]), 0, f"no GPU (auto: {CLUSTER} has no GPU now)"),
        (Place(CLUSTER, [HEAD], open_ended=True), 0, f"no GPU (auto: {CLUSTER} has no GPU now)"),
        (Place(CLUSTER, [{"CPU": 0.0, "GPU": 1.0}]), 0, f"no GPU (auto: no machine of {CLUSTER} has a GPU and 1 CPU)"),
    ],
)
def test_auto_is_a_gpu_where_trials_can_have_one(place, gpus, told):
    found = place.assign(resources(), "auto")
    assert found.number == gpus
    assert found.to_measure == bool(gpus)
    assert str(found).startswith(told)


def test_the_heads_torch_does_not_decide_for_a_cluster(monkeypatch):
    def asked(**_):
        raise AssertionError("torch was asked")

    monkeypatch.setattr(placement, "gpu_problem", asked)
    assert Place.of_ray("10.0.0.5:6379", [HEAD, GPUS]).assign(resources(), "auto").number == 1


@pytest.mark.parametrize(
    ("gpu", "told"),
    [
        (0, "no GPU"),
        (1, "1 GPU"),
        (2, "2 GPU"),
        (0.3, "0.3 GPU (3 trials per GPU)"),
        (0.6, "0.6 GPU (1 trial per GPU)"),
    ],
)
def test_a_number_is_taken_as_it_is(gpu, told):
    found = here(gpu=2).assign(resources(gpu), "auto")
    assert (found.number, found.why, found.to_measure) == (gpu, "", False)
    assert str(found) == told


@pytest.mark.parametrize(
    ("device", "gpu", "told"),
    [
        (
            "cuda",
            0,
            r"device: cuda needs a GPU for each trial, and resources.gpu gives none \(set",
        ),
        ("cuda", "auto", r"device: cuda needs a GPU for each trial, .* gives none \(this machine has no GPU\)"),
        ("cpu", 0.5, "device: cpu, but resources.gpu gives each trial 0.5 GPU; set it to 0"),
    ],
)
def test_device_and_resources_that_contradict_each_other_are_refused(device, gpu, told):
    with pytest.raises(UserError, match=told):
        here(problem="this machine has no GPU").assign(resources(gpu), device)


def test_device_cpu_needs_no_gpu():
    assert str(here(gpu=2).assign(resources(), "cpu")) == "no GPU (auto: device: cpu)"


def test_more_than_the_machines_have_is_refused():
    place = here(problem="Found no NVIDIA driver on your system")
    place.check(resources(0, cpu=2))
    with pytest.raises(UserError, match="needs 64 CPU on one machine; this machine has at most 2 CPU; see"):
        place.check(resources(0, cpu=64))
    told = r"1 CPU and 1 GPU on one machine; this machine has at most 2 CPU and 0 GPU \(Found no NVIDIA driver"
    with pytest.raises(UserError, match=told):
        place.check(resources(1))
    with pytest.raises(UserError, match=f"a machine of {CLUSTER} has at most 16 CPU and 2 GPU, and no larger node"):
        Place(CLUSTER, [HEAD, GPUS]).check(resources(3))
    Place(CLUSTER, [HEAD], [{"CPU": math.inf, "GPU": math.inf}]).check(resources(3))
    Place(CLUSTER, [HEAD], open_ended=True).check(resources(3))


def test_nothing_is_refused_on_a_cluster_that_starts_nodes_of_unknown_kinds(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    Place.of_ray("10.0.0.5:6379", [HEAD], autoscales=True).check(resources(3))
    with pytest.raises(UserError):
        Place.of_ray("10.0.0.5:6379", [HEAD]).check(resources(3))
    (tmp_path / "ray_bootstrap_config.yaml").write_text(
        "available_node_types: {worker: {max_workers: 2, resources: {CPU: 8, GPU: 1}}}"
    )
    Place.of_ray("10.0.0.5:6379", [HEAD], autoscales=True).check(resources(1))
    for autoscales in (True, False):
        with pytest.raises(UserError):
            Place.of_ray("10.0.0.5:6379", [HEAD], autoscales=autoscales).check(resources(3))


@pytest.mark.parametrize(
    ("gpu", "cpu", "count"),
    [(0, 1, 16), (1, 1, 2), (0.3, 1, 6), (0.4, 1, 4), (0.5, 8, 2), (0.05, 1, 16), (2, 1, 1), (3, 1, 0)],
)
def test_trials_fit_by_cores_and_by_whole_cards(gpu, cpu, count):
    assert fitting(resources(gpu, cpu=cpu), GPUS) == count


@pytest.mark.parametrize(
    ("gpu", "trials"), [(1, 1), (2, 1), (0.51, 1), (0.5, 2), (1 / 3, 3), (0.3, 3), (0.0001, 10_000)]
)
def test_trials_on_a_gpu(gpu, trials):
    assert trials_per_gpu(gpu) == trials


@pytest.mark.parametrize(("gpu", "trials"), [(0.5, 2), (0.3, 3), (1 / 3, 3), (1 / 7, 6), (0.0625, 16)])
def test_memory_is_left_for_the_contexts_of_all_trials_on_a_gpu(gpu, trials):
    total, context = 80 * GIB, GIB // 2
    each = memory_fraction(gpu, total, context) * total
    assert trials * (each + context) == pytest.approx(total)


def test_a_trial_alone_on_its_gpu_may_use_all_of_it_and_too_many_are_refused():
    assert memory_fraction(1, 8 * GIB, GIB) == memory_fraction(2, 8 * GIB, GIB) == memory_fraction(0.6, GIB, GIB) == 1
    with pytest.raises(
        UserError, match=r"16 trials on a GPU of 8.0 GiB leave no memory: .* about 0.5 GiB; set a larger"
    ):
        memory_fraction(1 / 16, 8 * GIB, GIB // 2)


def test_a_machine_without_devices_is_not_asked_by_torch(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.gpu_problem(sure=False) == "this machine has no GPU"
    (tmp_path / "nvme0").touch()  # a disk
    assert machine.gpu_problem(sure=False) == "this machine has no GPU"
    monkeypatch.setattr("gaptune.trial.device.cuda_problem", lambda: "torch was asked")
    assert machine.gpu_problem(sure=True) == "torch was asked"
    (tmp_path / "nvidiactl").touch()
    assert machine.gpu_problem(sure=False) == "torch was asked"


def test_each_listed_mig_device_counts(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-6ee4de2d-1c23, MIG-0f5a77c1-9d10,MIG-GPU-5c89852c/1/0")
    assert machine.available_gpus() == 3
    for other in ("0", "GPU-5c89852c"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", other)
        assert machine.available_gpus() == 1


@pytest.mark.parametrize(("gpu", "device"), [(0, "cpu"), (1, "cuda"), (0.5, "cuda"), ("auto", "auto")])
def test_a_single_training_follows_the_resources_too(gpu, device):
    assert with_device(TrialConfig(), resources(gpu)).device == device


def test_a_single_training_with_a_contradiction_is_refused():
    with pytest.raises(UserError, match="device: cpu, but"):
        with_device(TrialConfig(device="cpu"), resources(1))


@pytest.mark.parametrize("gpu", [1.5, 2.25, 0.00001, float("inf"), float("nan"), -1, True, "all", None])
def test_gpus_that_ray_refuses_are_refused_when_they_are_read(gpu):
    with pytest.raises(ValueError, match="gpu"):
        resources(gpu)


def test_automatic_is_the_default_and_has_no_number():
    assert resources().gpu == ResourcesConfig().gpu == "auto"
    with pytest.raises(AssertionError):
        _ = resources().gpus

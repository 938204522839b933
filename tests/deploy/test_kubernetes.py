"""The files for Kubernetes and the image: valid by the schemas, pinned, scaled from zero, and with a token."""

import copy
import re
import shutil
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
import yaml
from kuberay import check

from gaptune import __version__

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
RESOURCES = [one for file in FILES for one in yaml.safe_load_all(file.read_text())]
JOB = next(one for one in RESOURCES if one["kind"] == "RayJob")
CLUSTER = JOB["spec"]["rayClusterSpec"]


def reached(job, keys):
    """What contains the last of some keys of a job's spec."""
    return reduce(getitem, keys[:-1], job["spec"])


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_each_resource_is_valid(resource):
    check(resource)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("entrypont",), "gaptune"),
        (("backoffLimit",), "5"),
        (("rayClusterSpec", "authOptions", "mode"), "tokens"),
        (("rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("rayClusterSpec", "workerGroupSpecs", 0, "minReplica"), 0),
        (("rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "container"), []),
    ],
)
def test_the_check_finds_a_wrong_field(keys, value):
    job = copy.deepcopy(JOB)
    reached(job, keys)[keys[-1]] = value
    with pytest.raises(Exception, match=r"."):
        check(job)


@pytest.mark.parametrize(
    "keys",
    [
        ("rayClusterSpec", "headGroupSpec"),
        ("rayClusterSpec", "headGroupSpec", "rayStartParams"),
        ("rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"),
        ("rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "name"),
    ],
)
def test_the_check_finds_a_missing_field(keys):
    job = copy.deepcopy(JOB)
    del reached(job, keys)[keys[-1]]
    with pytest.raises(Exception, match=r"missing|required"):
        check(job)


def test_the_head_trains_nothing_and_workers_come_from_zero():
    assert CLUSTER["enableInTreeAutoscaling"]
    assert CLUSTER["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    (group,) = CLUSTER["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert f"--concurrency {group['maxReplicas']}" in JOB["spec"]["entrypoint"]


def test_the_cluster_has_a_token_and_the_sweep_a_name_to_resume():
    assert CLUSTER["authOptions"] == {"mode": "token"}
    assert f"--name {JOB['metadata']['name']}" in JOB["spec"]["entrypoint"]
    assert JOB["spec"]["backoffLimit"] > 0


def test_names_refer_to_each_other():
    claims = {one["metadata"]["name"] for one in RESOURCES if one["kind"] == "PersistentVolumeClaim"}
    service = next(one for one in RESOURCES if one["kind"] == "Service")
    text = "\n".join(file.read_text() for file in FILES)
    assert set(re.findall(r"claimName: (\w+)", text)) == claims
    assert f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}" in JOB["spec"]["entrypoint"]


def test_the_image_is_pinned_and_has_this_version():
    text = (DEPLOY / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{CLUSTER['rayVersion']}-py311-gpu" in text
    assert f"gaptune-{__version__}-py3-none-any.whl" in text
    cluster = (DEPLOY.parent / "ray_cluster.yaml").read_text()
    pins = re.findall(r"torch\w*==[\d.]+", text)
    assert len(pins) == 2
    assert all(pin in cluster for pin in pins)


def test_the_image_passes_hadolint():
    linter = shutil.which("hadolint") or Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_slurm_gets_a_job_that_is_queued_again_and_warned_before_its_end():
    text = (DEPLOY / "slurm/sweep.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert {"requeue", "open-mode", "signal", "time", "nodes"} <= options.keys()
    assert options["signal"].startswith("B:TERM@")
    assert options["ntasks-per-node"] == "1"
    assert subprocess.run(["bash", "-n", DEPLOY / "slurm/sweep.sbatch"]).returncode == 0

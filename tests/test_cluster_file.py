"""The cluster file is one that `ray up` accepts, with pinned versions, and permissions that its workers need."""

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import yaml

from gaptune import __version__

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "ray_cluster.yaml").read_text()
CLUSTER = yaml.safe_load(TEXT)


def test_file_is_valid_by_rays_own_schema():
    schema = json.loads((files("ray.autoscaler") / "ray-schema.json").read_text())
    jsonschema.validate(CLUSTER, schema)


def test_gpu_workers_are_autoscaled_spot_machines():
    workers = CLUSTER["available_node_types"]["gpu"]
    assert workers["min_workers"] == 0
    assert workers["max_workers"] <= CLUSTER["max_workers"]
    assert workers["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert CLUSTER["head_node_type"] in CLUSTER["available_node_types"]


def test_all_values_to_fill_in_are_in_one_block():
    block = TEXT.partition("metadata:")[2].partition("\n\n")[0]
    assert TEXT.count("FILL_IN") == block.count("FILL_IN") == 3
    for name in re.findall(r"&(\w+)", block):
        assert f"*{name}" in TEXT.partition(block)[2]


def test_the_wheel_is_of_this_version():
    assert f"gaptune-{__version__}-py3-none-any.whl" in TEXT


def test_the_head_may_start_workers_with_the_same_role_and_all_use_the_bucket():
    policy = json.loads((ROOT / "deploy/aws/policy.json").read_text())
    allowed = {one["Sid"]: one for one in policy["Statement"]}
    role = allowed["GiveWorkersThisRole"]
    assert (role["Action"], role["Resource"]) == ("iam:PassRole", "arn:aws:iam::*:role/gaptune")
    assert "ec2:RunInstances" in allowed["StartAndEndWorkers"]["Action"]
    assert {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"} <= set(allowed["ReadAndWriteBucket"]["Action"])
    trust = json.loads((ROOT / "deploy/aws/trust.json").read_text())
    assert trust["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com"}
    for kind in CLUSTER["available_node_types"].values():
        assert kind["node_config"]["IamInstanceProfile"] == {"Name": CLUSTER["metadata"]["profile"]}

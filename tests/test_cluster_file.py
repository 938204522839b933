"""The cluster file is one that `ray up` accepts."""

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import yaml

CLUSTER = yaml.safe_load((Path(__file__).resolve().parent.parent / "ray_cluster.yaml").read_text())


def test_file_is_valid_by_rays_own_schema():
    schema = json.loads((files("ray.autoscaler") / "ray-schema.json").read_text())
    jsonschema.validate(CLUSTER, schema)


def test_gpu_workers_are_autoscaled_spot_machines():
    workers = CLUSTER["available_node_types"]["gpu"]
    assert workers["min_workers"] == 0
    assert workers["max_workers"] <= CLUSTER["max_workers"]
    assert workers["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert CLUSTER["head_node_type"] in CLUSTER["available_node_types"]

"""Nodes on this machine for Ray's autoscaler, whose workers are forked from the process of ``warm.py``."""

from functools import partial
from unittest.mock import patch

from ray._private.parameter import RayParams
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from warm import WORKERS


class WarmNodes(FakeMultiNodeProvider):
    def create_node_with_resources_and_labels(self, *wanted):
        with patch("ray._private.parameter.RayParams", partial(RayParams, **WORKERS)):
            super().create_node_with_resources_and_labels(*wanted)

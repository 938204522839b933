"""What every frozen tower must do. The tests of a kind of tower inherit from ``TowerConformance``."""

import json

import numpy as np
import pytest
import torch

from gaptune.towers import TOWERS, open_tower

TEXTS = ["a dog runs", "two dogs", "a dog runs", "a small red square beside a large blue circle", "dog"]
"""The first and the third are equal; the lengths differ."""


def some_images():
    """Five images, of which the first and the third are equal."""
    images = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    images[2] = images[0]
    return images


class TowerConformance:
    """Opens a tower by its name, and tests its features of five inputs.

    Attributes:
        modality: ``image`` or ``text``.
        width: Numbers per input.
        unit: Whether features have length 1.
    """

    modality: str
    width: int
    unit = False

    @pytest.fixture(scope="class")
    def reference(self):
        """The name of the tower."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def tower(self, reference):
        return open_tower(reference, self.modality)

    @pytest.fixture(scope="class")
    def inputs(self):
        return some_images() if self.modality == "image" else TEXTS

    @pytest.fixture(scope="class")
    def features(self, tower, inputs):
        return tower.encode(inputs)

    def test_features_are_a_finite_row_per_input(self, tower, features):
        assert (features.shape, features.dtype) == ((5, self.width), np.float32)
        assert np.isfinite(features).all()
        assert tower.width == self.width

    def test_inputs_that_differ_have_different_features(self, features):
        scale = np.abs(features).max()
        assert scale > 0
        assert np.abs(features[0] - features[1]).max() > 1e-4 * scale

    def test_equal_inputs_have_equal_features(self, features):
        self.check_close(features[0], features[2])

    def test_features_do_not_depend_on_the_rest_of_the_batch(self, tower, inputs, features):
        alone = np.concatenate([tower.encode(inputs[row : row + 1]) for row in range(len(inputs))])
        self.check_close(alone, features)
        self.check_close(tower.encode(inputs[::-1]), features[::-1])

    def test_opened_again_it_is_the_same(self, reference, tower, inputs, features):
        again = open_tower(reference, self.modality)
        assert again.describe() == tower.describe()
        self.check_close(again.encode(inputs), features)

    def test_length_is_1_where_the_model_says_so(self, features):
        lengths = np.linalg.norm(features, axis=1)
        assert np.allclose(lengths, 1, atol=1e-5) == self.unit

    def test_network_is_frozen_on_the_device_that_there_is(self, tower):
        assert not any(module.training for module in tower.module.modules())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        assert {tensor.device.type for tensor in tower.module.parameters()} == {device}

    def test_description_is_json_with_name_weights_and_versions(self, reference, tower):
        told = json.loads(json.dumps(tower.describe()))
        assert told["tower"] == reference
        assert len(told["weights"]) == 64
        assert told["preprocessing"]
        assert told["versions"]["torch"]

    def test_kind_names_this_modality(self, reference):
        assert self.modality in TOWERS[reference.partition(":")[0]].modalities

    @staticmethod
    def check_close(found, expected):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

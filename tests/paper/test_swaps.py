"""As many swapped steps as in the paper, whatever the length of a training."""

from pathlib import Path

import pytest
from support import sweep_config

from gaptune.data.open import open_store
from gaptune.paper.swaps import PAPER_SWAPS, training_steps, with_enough_swaps
from gaptune.space.parse import load_space
from gaptune.storage.bundled import find


def probabilities(space):
    return space.to_dict()["params"]["swap.probability"]["choice"]


@pytest.fixture(scope="module")
def space():
    return load_space(find(Path("search_spaces/paper.yaml"), "search_spaces"))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (11_500, [0.001, 0.05, 1.0]),  # the paper
        (550, [0.02, 0.05, 1.0]),  # sweeps/paper_features.yaml
        (100, [0.1, 1.0]),
        (2, [0.5, 1.0]),
    ],
)
def test_no_probability_swaps_in_fewer_steps_than_the_papers(space, steps, expected):
    assert probabilities(with_enough_swaps(space, steps)) == expected


@pytest.mark.parametrize("steps", [550, 1716, 24_000])
def test_the_smallest_probability_swaps_about_as_often_as_in_the_paper(space, steps):
    assert min(probabilities(with_enough_swaps(space, steps))) * steps >= 0.9 * PAPER_SWAPS


def test_everything_else_of_the_space_stays(space):
    raised = with_enough_swaps(space, 550)
    before, after = space.to_dict(), raised.to_dict()
    assert before["params"].pop("swap.probability") != after["params"].pop("swap.probability")
    assert before == after
    assert raised.path == space.path


def test_steps_are_those_of_full_batches(small_store):
    images = open_store(small_store).meta.splits["train"].images
    config = sweep_config().trial({"training.epochs": 3, "training.batch_size": images // 2})
    data = config.data.model_copy(update={"store": str(small_store)})
    assert training_steps(config.model_copy(update={"data": data})) == 6

"""Plans of training steps."""

import numpy as np
import pytest
import torch

from gaptune.config import ModelConfig
from gaptune.trial.build_model import make_model
from gaptune.trial.plan import Planner


@pytest.fixture
def planned(store, short):
    """Makes the plans of a training by its parameters."""
    model = make_model(ModelConfig(), store.meta)

    def plans(params=(), **fields):
        planner = Planner(short(dict(params), **fields), model, store.split("train"))
        return [planner.plan(step) for step in range(planner.steps)]

    return plans


def same(one, other):
    return all(
        np.array_equal(mine, theirs) if isinstance(mine, np.ndarray | torch.Tensor) else mine == theirs
        for mine, theirs in zip(one, other, strict=True)
    )


def test_plan_depends_on_seed_and_step_only(planned, store, short):
    changed = {"swap.kind": "soft", "swap.probability": 0.5}
    first = planned(changed)
    planner = Planner(short(changed), make_model(ModelConfig(), store.meta), store.split("train"))
    torch.rand(100)  # the global stream has no part in it
    backwards = [planner.plan(step) for step in reversed(range(planner.steps))][::-1]
    assert all(map(same, first, backwards))
    assert not any(map(same, first, planned(changed, seed=1)))


def test_epoch_has_every_image_once_and_each_step_its_captions(planned, store):
    split = store.split("train")
    plans = planned()
    rows = np.concatenate([plan.rows for plan in plans[: len(plans) // 2]])
    assert sorted(rows) == list(range(len(split)))
    for plan in plans:
        assert (split.offsets[plan.rows] <= plan.captions).all()
        assert (plan.captions < split.offsets[plan.rows + 1]).all()


def test_schedules_are_planned_and_a_learned_temperature_is_not(planned):
    moving = {"temperature.schedule": "linear", "temperature.tau_start": 0.02, "temperature.tau_end": 0.06}
    plans = planned(moving)
    steps = len(plans)
    assert [1 / plan.beta for plan in plans] == pytest.approx([0.02 + 0.04 * step / steps for step in range(steps)])
    assert all(plan.beta is None for plan in planned())
    assert plans[-1].lr_factor < plans[2].lr_factor <= 1


def test_fractions_are_planned_where_features_are_swapped(planned):
    plans = planned({"swap.kind": "hard", "swap.probability": 1.0, "swap.start": 0.5})
    half = len(plans) // 2
    assert [plan.kept is None for plan in plans] == [True] * half + [False] * half
    assert plans[-1].kept.shape == (32, 64)
    assert set(plans[-1].kept.unique().tolist()) == {0.0, 1.0}


def test_what_the_towers_draw_differs_from_step_to_step(planned):
    seeds = [plan.dropout for plan in planned()]
    assert len(set(seeds)) == len(seeds)

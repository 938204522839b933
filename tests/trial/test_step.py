"""One update of the weights."""

import math

import pytest
import torch

from gaptune.trial import NonFinite, step
from gaptune.trial.loop import Training
from gaptune.trial.loss import clip_loss
from gaptune.trial.step import contrast
from gaptune.trial.swap import swap


def features():
    random = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(2, 12, 5, generator=random, dtype=torch.float64), dim=2)


def test_contrast_is_the_loss_of_the_swapped_features():
    x, y = features()
    kept = torch.rand(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert contrast(x, y, 14.0) == clip_loss(x, y, 14.0)
    for renormalize in (False, True):
        expected = clip_loss(*swap(x, y, kept, renormalize=renormalize), 14.0)
        assert contrast(x, y, 14.0, kept, renormalize=renormalize) == expected
    assert contrast(x, y, 14.0, torch.ones(12, 5)) == clip_loss(x, y, 14.0)


@pytest.fixture
def lazy(store, short, monkeypatch):
    """A training that asks its device for errors only when it reports, as on a card."""
    trial = Training(short({"swap.kind": "hard", "swap.probability": 1.0}), store)
    check = trial.updates._check
    monkeypatch.setattr(trial.updates, "_check", lambda: None)
    return trial, check


def test_no_update_follows_a_loss_that_is_not_finite_even_if_nobody_asks(lazy, monkeypatch):
    trial, check = lazy
    steps = trial.steps(0, 2)
    next(steps)
    before = [each.detach().clone() for each in trial.model.parameters()]
    loss, count = step.clip_loss, iter([math.inf, 1.0, math.nan])
    monkeypatch.setattr(step, "clip_loss", lambda x, y, beta: loss(x, y, beta) * next(count))
    for _ in range(3):
        next(steps)
    for one, other in zip(before, trial.model.parameters(), strict=True):
        assert torch.equal(one, other.detach())
    with pytest.raises(NonFinite, match=r"^loss inf at step 1$"):
        check()


def test_results_are_the_sums_since_they_were_last_read(lazy, monkeypatch):
    trial, _ = lazy
    loss, seen = step.clip_loss, []

    def seen_loss(x, y, beta):
        seen.append(loss(x, y, beta))
        return seen[-1]

    monkeypatch.setattr(step, "clip_loss", seen_loss)
    for number, _ in enumerate(trial.steps(0, 2), start=1):
        if number == 3:
            first = trial.updates.read()
    second = trial.updates.read()
    assert (first.steps, second.steps) == (3, 5)
    assert (first.swapped, second.swapped) == (3, 5)
    losses = [float(each.detach()) for each in seen]
    assert (first.loss, second.loss) == (sum(losses[:3]), sum(losses[3:]))

"""Batches on their device: the same ones however they get there."""

import numpy as np
import pytest
import torch

from gaptune.trial import feed
from gaptune.trial.build_model import make_model
from gaptune.trial.feed import feed_of
from gaptune.trial.plan import Planner

CPU = torch.device("cpu")
SWAP_AND_CROP = {"swap.kind": "soft", "swap.probability": 1.0, "augment.crop_min": 0.5, "augment.flip": True}


@pytest.fixture
def parts(short, store):
    """What a feed is made of."""
    config = short(SWAP_AND_CROP)
    model, split = make_model(config.model, store.meta), store.split("train")
    return model, split, Planner(config, model, split), CPU


def same(one, other):
    return all(torch.equal(mine, theirs) for mine, theirs in zip(one[1], other[1], strict=True))


def test_images_are_read_on_the_cpu_in_each_step(parts):
    assert type(feed_of(*parts)) is feed._Stored


@pytest.mark.parametrize("kind", [feed._Resident, feed._Ahead])
def test_every_feed_gives_the_same_batches(kind, parts):
    expected = list(feed._Stored(*parts).batches(1, 8))
    found = list(kind(*parts).batches(1, 8))
    assert [plan.step for plan, _ in found] == list(range(1, 8))
    assert all(map(same, expected, found))


def test_batch_read_ahead_stays_as_it_is_when_the_buffers_are_used_again(parts):
    kept = [batch.images.clone() for _, batch in feed._Ahead(*parts).batches(0, 7)]
    again = [batch.images for _, batch in feed._Ahead(*parts).batches(0, 7)]
    assert all(map(torch.equal, kept, again))


def test_reading_ahead_can_be_left_at_any_step(parts):
    for stop in range(1, 5):
        batches = feed._Ahead(*parts).batches(0, 8)
        for _ in range(stop):
            next(batches)
        batches.close()
    assert same(next(feed._Ahead(*parts).batches(3, 8)), next(feed._Stored(*parts).batches(3, 8)))


def test_error_while_reading_ahead_is_raised_at_its_step(parts, monkeypatch):
    model, split, planner, device = parts
    plan = planner.plan

    def broken(step):
        if step == 2:
            raise OSError("the disk is gone")
        return plan(step)

    monkeypatch.setattr(planner, "plan", broken)
    batches = feed._Ahead(model, split, planner, device).batches(0, 8)
    assert [next(batches)[0].step for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def test_images_of_a_card_are_read_part_by_part(parts, monkeypatch):
    split = parts[1]
    monkeypatch.setattr(feed, "_PART", 5 * split.image_bytes)
    assert np.array_equal(feed._copied_images(split, CPU).numpy(), split.gather(np.arange(len(split))))


def test_images_stay_on_a_card_only_within_the_limit_of_a_trial(parts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 * 2**30, 140 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1 / 70)
    assert feed._free_memory(torch.device("cuda")) == pytest.approx(2 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)
    assert feed._free_memory(torch.device("cuda")) == 100 * 2**30

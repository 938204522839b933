"""The order of an epoch: whole permutations, blocks of large splits, and several splits by weight."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaptune.config import Data, TrialConfig
from gaptune.data import StoreWriter, open_store, open_training
from gaptune.data import store as stores
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.trial import order, train
from gaptune.trial.order import epoch_order, shares
from gaptune.trial.streams import generator

SIDE = 16


def write(path, n=300, side=SIDE, context=8, val=8):
    rng = np.random.default_rng(n)
    tokens = tokenize(["a dog"], context)
    with StoreWriter(path, side, context) as writer:
        for split, count in (("train", n), ("val", val)):
            for row in range(count):
                image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                writer.add(split, image, ["a dog"], tokens, id=str(row))
        return writer.finish(name=path.name, source={})


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return write(tmp_path_factory.mktemp("order") / "store").split("train")


@pytest.fixture
def small_windows(monkeypatch):
    """Splits are large from 64 images on, with windows of 32 in blocks of 4."""
    image = SIDE * SIDE * 3
    monkeypatch.setattr(stores, "LARGE", 64 * image)
    for module in (stores, order):
        monkeypatch.setattr(module, "WINDOW", 32 * image)
    monkeypatch.setattr(order, "BLOCK", 4 * image)


def drawn(split, seed=0, epoch=0):
    return epoch_order(split, generator(seed, "order", epoch))


def test_a_split_that_is_not_large_is_permuted_as_it_always_was(split):
    import torch

    assert not split.large
    whole = torch.randperm(300, generator=generator(0, "order", 3)).numpy()
    assert np.array_equal(drawn(split, epoch=3), whole)


@pytest.mark.parametrize("n", [65, 128, 129, 300, 303])
def test_a_large_split_comes_whole_each_epoch_and_differently(n, tmp_path, small_windows):
    large = write(tmp_path / "store", n).split("train")
    assert large.large
    first = drawn(large)
    assert sorted(first) == list(range(n))
    assert np.array_equal(first, drawn(large)), "the same seed and epoch, the same order"
    assert not np.array_equal(first, drawn(large, epoch=1))
    assert not np.array_equal(first, drawn(large, seed=1))


def test_a_window_of_a_large_split_touches_few_blocks_and_mixes_them(tmp_path, small_windows):
    large = write(tmp_path / "store", 320).split("train")
    windows = drawn(large).reshape(-1, 32)
    for rows in windows:
        assert len(set(rows // 4)) == 8, "eight blocks of four"
        assert len(set(rows[:8] // 4)) > 2, "which are not read one after the other"
    assert np.ptp(windows // 4, axis=1).min() > 8, "and come from all over the split"


@settings(deadline=None)
@given(total=st.integers(1, 10_000), weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=5))
def test_shares_add_up_and_are_exact_to_a_sample(total, weights):
    counts = shares(total, tuple(weights))
    assert sum(counts) == total
    assert np.abs(np.array(counts) - np.array(weights) * total / sum(weights)).max() < 1


def mixture(tmp_path, weights, sizes=(120, 40), **changes):
    for name, n in zip("ab", sizes, strict=True):
        write(tmp_path / name, n, **(changes if name == "b" else {}))
    return open_training(Data(mix={str(tmp_path / name): weight for name, weight in zip("ab", weights, strict=True)}))


@pytest.mark.parametrize("weights", [(1, 1), (2, 1), (1, 7), (119, 1)])
def test_each_store_gives_its_share_of_an_epoch_and_repeats_evenly(weights, tmp_path):
    mixed = mixture(tmp_path, weights).split("train")
    rows = drawn(mixed)
    assert len(rows) == len(mixed) == 160
    counts = np.bincount(rows, minlength=160)
    assert [counts[:120].sum(), counts[120:].sum()] == shares(160, weights)
    for mine in (counts[:120], counts[120:]):
        assert np.ptp(mine) <= 1, "nothing is seen twice before all has been seen once"
    assert np.array_equal(rows, drawn(mixed))
    assert not np.array_equal(rows, drawn(mixed, epoch=1))


def test_a_mixed_split_gathers_from_each_store(tmp_path):
    mixed = mixture(tmp_path, (1, 1))
    rows = np.array([3, 130, 0, 159, 130])
    parts = {name: open_store(tmp_path / name).split("train") for name in "ab"}
    expected = [parts[name].gather(np.array([row]))[0] for name, row in zip("ababb", (3, 10, 0, 39, 10), strict=True)]
    split = mixed.split("train")
    assert np.array_equal(split.gather(rows), expected)
    assert len(split.tokens) == split.offsets[-1] == 160
    assert split.ids[130] == "10"
    assert split.captions(159) == ["a dog"]


def test_validation_is_of_the_first_store_or_of_a_named_one(tmp_path):
    write(tmp_path / "c", 20, val=5)
    mix = {str(tmp_path / name): 1 for name in "ab"}
    assert mixture(tmp_path, (1, 1)).meta.splits["val"].images == 8
    named = open_training(Data(store=str(tmp_path / "c"), mix=mix))
    assert named.meta.splits["val"].images == 5
    assert named.meta.splits["train"].images == 160
    named.verify()


def test_the_hash_of_a_mixture_follows_its_weights(tmp_path):
    one = mixture(tmp_path, (1, 1)).meta
    other = open_training(Data(mix={str(tmp_path / "a"): 2, str(tmp_path / "b"): 1})).meta
    assert one.content_hash != other.content_hash
    assert one.name == "1 a + 1 b"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"side": 17}, "images of 17 pixels, .* has images of 16"), ({"context": 9}, "captions of 9 tokens, .* of 8")],
)
def test_stores_of_different_shapes_cannot_be_mixed(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        mixture(tmp_path, (1, 1), **changes)


def test_a_training_on_a_mixture_is_reproducible(tmp_path):
    mixed = mixture(tmp_path, (1, 3))
    config = TrialConfig.model_validate({"training": {"epochs": 1, "batch_size": 32}, "model": {"image_size": 32}})
    first, again = ([report.metrics["train/loss"] for report in train(config, mixed)] for _ in range(2))
    assert first == again

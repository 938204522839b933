"""The order of an epoch: whole permutations, blocks of large splits, and several splits by weight."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from gaptune.config import DataConfig, TrialConfig
from gaptune.data import StoreWriter
from gaptune.data.open import open_store, open_training
from gaptune.data.store import reader as stores
from gaptune.data.store.mixture import MixedSplit, PartialSplit
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.trial import order, train
from gaptune.trial.build_model import make_model
from gaptune.trial.order import apportion, epoch_order
from gaptune.trial.plan import Planner
from gaptune.trial.streams import generator

SIDE = 16


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path / "cache"))


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


def test_small_split_is_permuted_as_in_earlier_versions(split):
    import torch

    assert not split.large
    whole = torch.randperm(300, generator=generator(0, "order", 3)).numpy()
    assert np.array_equal(drawn(split, epoch=3), whole)


@pytest.mark.parametrize("n", [65, 128, 129, 300, 303])
def test_large_split_comes_whole_each_epoch_and_differently(n, tmp_path, small_windows):
    large = write(tmp_path / "store", n).split("train")
    assert large.large
    first = drawn(large)
    assert sorted(first) == list(range(n))
    assert np.array_equal(first, drawn(large)), "the same seed and epoch, the same order"
    assert not np.array_equal(first, drawn(large, epoch=1))
    assert not np.array_equal(first, drawn(large, seed=1))


def test_window_of_a_large_split_touches_few_blocks_and_mixes_them(tmp_path, small_windows):
    large = write(tmp_path / "store", 320).split("train")
    windows = drawn(large).reshape(-1, 32)
    for rows in windows:
        assert len(set(rows // 4)) == 8, "eight blocks of four"
        assert len(set(rows[:8] // 4)) > 2, "which are not read one after the other"
    assert np.ptp(windows // 4, axis=1).min() > 8, "and come from all over the split"


@given(
    total=st.integers(0, 10_000),
    weights=st.lists(st.fractions(0, 100), min_size=1, max_size=5).filter(any),
    offset=st.floats(0, 1, exclude_max=True),
)
def test_fractions_add_up_and_are_exact_fractions_rounded_down_or_up(total, weights, offset):
    counts = apportion(total, weights, offset)
    assert sum(counts) == total
    for count, weight in zip(counts, weights, strict=True):
        assert math.floor(weight * total / sum(weights)) <= count <= math.ceil(weight * total / sum(weights))


def parts(split, sizes):
    """Splits of some sizes, each with rows of its own of one."""
    ends = np.cumsum(sizes)
    return [PartialSplit(split, np.arange(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def repeats(split, order, batch):
    """How many rows of an epoch have an image that their batch has already."""
    images = order if split.same is None else split.same[order]
    batches = images[: len(images) // batch * batch].reshape(-1, batch)
    return sum(batch - len(set(rows.tolist())) for rows in batches)


mixtures = st.fixed_dictionaries(
    {
        "sizes": st.lists(st.integers(1, 100), min_size=1, max_size=3),
        "weights": st.lists(st.sampled_from([0.001, 0.1, 0.3, 1, 2, 7.5, 1000]), min_size=3, max_size=3),
        "batch": st.integers(2, 40),
        "epoch": st.integers(0, 1000),
    }
)


@settings(deadline=None, max_examples=200)
@given(mixtures)
def test_batch_has_no_row_twice_where_there_is_a_batch_for_each_draw_of_it(split, given):
    sizes, batch = given["sizes"], min(given["batch"], sum(given["sizes"]))
    mixed = MixedSplit(parts(split, sizes), given["weights"][: len(sizes)])
    order = epoch_order(mixed, generator(0, "order", given["epoch"]), batch)
    assert len(order) == len(mixed)
    assert np.array_equal(order, epoch_order(mixed, generator(0, "order", given["epoch"]), batch))
    batches = order[: len(order) // batch * batch].reshape(-1, batch)
    exact = [Fraction(str(weight)) for weight in mixed.weights]
    for index, (start, size) in enumerate(zip(mixed.starts, sizes, strict=False)):
        mine = order[(order >= start) & (order < start + size)]
        drawn = np.bincount(mine - start, minlength=size)
        assert np.ptp(drawn) <= 1, "no row comes again before all have come"
        fraction = len(mixed) * exact[index] / sum(exact)
        assert math.floor(fraction) <= len(mine) <= math.ceil(fraction)
        within = [rows[(rows >= start) & (rows < start + size)] for rows in batches]
        assert max(map(len, within)) - min(map(len, within)) <= 2, "each batch has its share"
        most = max(np.bincount(rows - start, minlength=size).max() for rows in within)
        assert most <= math.ceil(drawn.max() / len(batches)), "repeats are spread over the batches"


@settings(deadline=None, max_examples=40)
@given(fraction=st.sampled_from([0.001, 0.003, 0.2, 0.77]), seed=st.integers(0, 2**20), first=st.integers(0, 500))
def test_fractions_come_out_over_neighboring_epochs(split, fraction, seed, first):
    mixed = MixedSplit(parts(split, (64, 4)), (1 - fraction, fraction))
    for epochs in (20, 100):
        orders = [epoch_order(mixed, generator(seed, "order", first + epoch)) for epoch in range(epochs)]
        assert abs(sum(int((order >= 64).sum()) for order in orders) - 68 * fraction * epochs) < 3


def test_over_many_epochs_each_store_and_each_of_its_images_has_its_fraction(split):
    """Chi-square tests at one in a thousand; also of what is left over at the end and not trained on."""
    mixed, epochs, batch = MixedSplit(parts(split, (40, 20, 5)), (5, 2, 0.05)), 400, 16
    orders = np.stack([epoch_order(mixed, generator(3, "order", epoch), batch) for epoch in range(epochs)])
    for drawn in (orders, orders[:, :64], orders[:, :16], orders[:, 64:]):
        counts = np.bincount(drawn.ravel(), minlength=65)
        wanted = np.repeat([5 / 40, 2 / 20, 0.05 / 5], (40, 20, 5)) * drawn.size / 7.05
        assert chisquare(counts, wanted).pvalue > 1e-3
        assert chisquare(np.add.reduceat(counts, [0, 40, 60]), np.add.reduceat(wanted, [0, 40, 60])).pvalue > 1e-3


def test_which_images_an_epoch_leaves_out_changes_from_epoch_to_epoch(split):
    mixed = MixedSplit(parts(split, (64, 30)), (1, 1))
    for one, batch in ((split, 151), (mixed, 33)):
        left_out = [
            frozenset(epoch_order(one, generator(0, "order", epoch), batch)[len(one) // batch * batch :].tolist())
            for epoch in range(40)
        ]
        assert len(set(left_out)) == 40
        assert len(frozenset.union(*left_out)) == len(one), "each image is left out some time"
        assert not frozenset.intersection(*left_out)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(st.integers(30, 100), st.integers(30, 100)), both=st.integers(1, 30), batch=st.integers(2, 10),
    epoch=st.integers(0, 99),
)  # fmt: skip
def test_image_of_two_stores_is_no_more_than_once_in_a_batch(split, sizes, both, batch, epoch):
    same = np.arange(sum(sizes))
    same[-both:] = same[:both]
    mixed, plain = (MixedSplit(parts(split, sizes), (1, 2), each) for each in (same, None))
    orders = [epoch_order(each, generator(0, "order", epoch), batch) for each in (mixed, plain)]
    assert repeats(mixed, orders[0], batch) == 0
    if repeats(mixed, orders[1], batch) == 0:
        assert np.array_equal(*orders), "nothing is moved where nothing need be"
    for part in range(2):
        counts = [int(((order >= mixed.starts[part]) & (order < mixed.starts[part + 1])).sum()) for order in orders]
        assert counts[0] == counts[1]


def test_equal_images_that_outnumber_the_batches_are_distributed_evenly(split):
    mixed = MixedSplit(parts(split, (20, 20)), (1, 1), np.tile(np.arange(20), 2))
    order = epoch_order(mixed, generator(0, "order", 0), 30)
    assert repeats(mixed, order, 30) == 10, "20 images in a batch of 30"


def mixture(tmp_path, weights, sizes=(120, 40), **changes):
    for name, n in zip("ab", sizes, strict=True):
        write(tmp_path / name, n, **(changes if name == "b" else {}))
    return open_training(
        DataConfig(mix={str(tmp_path / name): weight for name, weight in zip("ab", weights, strict=True)})
    )


@pytest.mark.parametrize("weights", [(1, 1), (2, 1), (1, 7), (119, 1)])
def test_each_store_gives_its_fraction_of_an_epoch_and_repeats_evenly(weights, tmp_path):
    mixed = mixture(tmp_path, weights).split("train")
    rows = drawn(mixed)
    assert len(rows) == len(mixed) == 160
    counts = np.bincount(rows, minlength=160)
    assert abs(counts[120:].sum() - 160 * weights[1] / sum(weights)) < 1
    for mine in (counts[:120], counts[120:]):
        assert np.ptp(mine) <= 1, "nothing is seen twice before all has been seen once"
    assert np.array_equal(rows, drawn(mixed))
    assert not np.array_equal(rows, drawn(mixed, epoch=1))


def test_mixed_split_gathers_from_each_store(tmp_path):
    mixed = mixture(tmp_path, (1, 1))
    rows = np.array([3, 130, 0, 159, 130])
    parts = {name: open_store(tmp_path / name).split("train") for name in "ab"}
    expected = [parts[name].gather(np.array([row]))[0] for name, row in zip("ababb", (3, 10, 0, 39, 10), strict=True)]
    split = mixed.split("train")
    assert np.array_equal(split.gather(rows), expected)
    assert len(split.texts) == split.offsets[-1] == 160
    assert split.ids[130] == "10"
    assert split.captions(159) == ["a dog"]


def test_validation_is_of_the_first_store_or_of_a_named_one(tmp_path):
    write(tmp_path / "c", 20, val=5)
    mix = {str(tmp_path / name): 1 for name in "ab"}
    assert mixture(tmp_path, (1, 1)).meta.splits["val"].images == 8
    named = open_training(DataConfig(store=str(tmp_path / "c"), mix=mix))
    assert named.meta.splits["val"].images == 5
    assert named.meta.splits["train"].images == 160
    named.verify()


def test_hash_of_a_mixture_follows_its_weights(tmp_path):
    one = mixture(tmp_path, (1, 1)).meta
    other = open_training(DataConfig(mix={str(tmp_path / "a"): 2, str(tmp_path / "b"): 1})).meta
    assert one.content_hash != other.content_hash
    assert one.name == "1 a + 1 b"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 17}, "images of 17 pixels, .* has images of 16"),
        ({"context": 9}, "of 9 tokens, .* of 8 tokens"),
    ],
)
def test_stores_of_different_shapes_cannot_be_mixed(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        mixture(tmp_path, (1, 1), **changes)


@pytest.mark.whole
def test_training_on_a_mixture_is_reproducible(tmp_path):
    mixed = mixture(tmp_path, (1, 3))
    config = TrialConfig.model_validate({"training": {"epochs": 1, "batch_size": 32}, "model": {"image_size": 32}})
    first, again = ([report.metrics["train/loss"] for report in train(config, mixed)] for _ in range(2))
    assert first == again


def test_each_draw_of_an_image_has_a_caption_of_its_own(tmp_path):
    """Two images with eight captions each, drawn about 30 times an epoch: captions of two draws are independent."""
    write(tmp_path / "a", 56)
    texts = [f"a {word} dog" for word in ("red", "green", "blue", "black", "white", "small", "large", "round")]
    with StoreWriter(tmp_path / "b", SIDE, 8) as writer:
        for row in range(2):
            image = np.full((SIDE, SIDE, 3), row, dtype=np.uint8)
            writer.add("train", image, texts, tokenize(texts, 8), id=str(row))
        writer.finish(name="b", source={})
    store = open_training(DataConfig(mix={str(tmp_path / "a"): 1, str(tmp_path / "b"): 1}))
    config = TrialConfig.model_validate({"training": {"epochs": 40, "batch_size": 29}})
    train = store.split("train")
    planner = Planner(config, make_model(config.model, store.meta), train)
    plans = [planner.plan(step) for step in range(planner.steps)]
    rows = np.concatenate([plan.rows for plan in plans])
    tokens = np.concatenate([train.texts[plan.captions] for plan in plans])
    known = {tuple(ids): index for index, ids in enumerate(tokenize(texts, 8).tolist())}
    for row in (56, 57):
        drawn = np.array([known[tuple(ids)] for ids in tokens[rows == row].tolist()])
        assert len(drawn) > 500
        assert chisquare(np.bincount(drawn, minlength=8)).pvalue > 1e-3
        pairs = drawn[:-1] * 8 + drawn[1:]
        assert chisquare(np.bincount(pairs, minlength=64)).pvalue > 1e-3

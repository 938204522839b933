import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from gaptune.data import scenes
from gaptune.data.open import open_store
from gaptune.data.scenes import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    SIZES,
    SPLITS,
    TEXTURES,
    draw_attributes,
    make_scenes,
    paint,
)
from gaptune.data.tokens import END, encode
from gaptune.errors import UserError
from gaptune.storage.cache import cache_folder

# What each word of a caption says of an object.
MEANING = {
    word: (kind, name)
    for kind, names in (("shape", SHAPES), ("color", COLORS), ("size", SIZES), ("texture", TEXTURES))
    for name in names
    for word in scenes._SYNONYMS.get(name, (name,))
}
INDEX = {"shape": list(SHAPES), "color": list(COLORS), "size": list(SIZES), "texture": list(TEXTURES)}
TINY = {"train": 30, "val": 10, "probe_train": 10, "probe_test": 10}


@pytest.fixture(scope="module")
def store():
    return open_store("scenes")


def drawn(split):
    """The attributes of a split, drawn again as ``make_scenes`` does."""
    rng = np.random.default_rng((scenes.VERSION, list(SPLITS).index(split)))
    return draw_attributes(rng, SPLITS[split], most_objects=1 if split.startswith("probe") else 3)


def said(thing):
    """What a phrase such as ``a tiny red plus sign`` says: (kind, name) pairs."""
    words = thing.replace("plus sign", "plus_sign").split()
    meanings = MEANING | {"plus_sign": ("shape", "cross"), "shape": None, "thing": None}
    assert words[0] == ("an" if words[1][0] in "aeiou" else "a"), thing
    return [meanings[word] for word in words[1:] if meanings[word] is not None]


def is_true(text, attributes, row):
    """Whether some choice of the scene's objects makes the whole caption true."""
    text = re.sub("^(there is|we see) ", "", text)
    text, _, background = text.partition(" on ")
    if background and background != list(BACKGROUNDS)[attributes.background[row]]:
        return False
    things = re.split(" and | left of | right of | above | below ", text)
    relation = re.search("left of|right of|above|below", text)

    def fits(thing, slot):
        return all(INDEX[kind][getattr(attributes, kind)[row, slot]] == name for kind, name in said(thing))

    def placed(one, other):
        dx, dy = (getattr(attributes, axis)[row, other] - getattr(attributes, axis)[row, one] for axis in "xy")
        return {"left of": dx > 0, "right of": dx < 0, "above": dy > 0, "below": dy < 0}[relation.group()]

    return any(
        all(fits(thing, slot) for thing, slot in zip(things, slots, strict=True))
        and (relation is None or placed(*slots))
        for slots in itertools.permutations(range(attributes.count[row]), len(things))
    )


def test_splits_have_the_requested_sizes(store):
    assert {name: split.images for name, split in store.meta.splits.items()} == SPLITS
    assert store.meta.splits["train"].captions == 5 * SPLITS["train"]
    assert store.meta.splits["probe_test"].captions == SPLITS["probe_test"]


@pytest.mark.parametrize("split", SPLITS)
def test_every_caption_is_true_of_its_scene(split, store):
    attributes, data = drawn(split), store.split(split)
    for row in range(len(data)):
        for text in data.captions(row):
            assert is_true(text, attributes, row), (row, text)


def test_check_of_captions_finds_false_ones(store):
    attributes, data = drawn("val"), store.split("val")
    shifted = [is_true(data.captions(row)[0], attributes, (row + 1) % len(data)) for row in range(len(data))]
    assert np.mean(shifted) < 0.2


def test_captions_are_imperfect_but_not_useless(store):
    attributes, data = drawn("val"), store.split("val")
    texts = [data.captions(row)[0] for row in range(200)]
    fitting = [sum(is_true(text, attributes, row) for row in range(len(data))) for text in texts]
    assert 1 < np.median(fitting) < 0.1 * len(data)


def test_captions_of_an_image_differ(store):
    data = store.split("train")
    assert np.mean([len(set(data.captions(row))) for row in range(500)]) > 4


@pytest.mark.parametrize("split", ["probe_train", "probe_test"])
def test_labels_are_the_shapes_and_balanced(split, store):
    labels = store.split(split).labels
    assert np.array_equal(labels, drawn(split).shape[:, 0])
    counts = np.bincount(labels, minlength=len(SHAPES))
    assert counts.min() > 0.6 * counts.mean()
    assert counts.max() < 1.4 * counts.mean()
    assert store.meta.classes == tuple(SHAPES)


def test_splits_for_training_have_no_labels(store):
    assert store.split("train").labels is None
    assert store.split("val").labels is None


def test_nearly_all_captions_fit_the_context(store):
    data = store.split("train")
    texts = [text for row in range(2_000) for text in data.captions(row)]
    cut = np.mean([len(encode(text)) > store.meta.context_length - 2 for text in texts])
    assert cut < 0.05


def test_vocabulary_covers_captions_and_prompts(store):
    known = {0, *store.meta.vocabulary}
    assert END in known
    for split in SPLITS:
        assert set(np.unique(store.split(split).texts).tolist()) <= known
    for template in store.meta.prompts:
        assert set(encode(template.format("star"))) <= known


def test_scenes_are_reproducible_and_differ_between_splits(tmp_path):
    one, other = make_scenes(tmp_path / "one", TINY), make_scenes(tmp_path / "other", TINY)
    assert one.meta.content_hash == other.meta.content_hash
    assert one.meta.vocabulary == other.meta.vocabulary
    assert len({split.sha256 for split in one.meta.splits.values()}) == len(TINY)


@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "diamond", "cross", "star", "bar"])
def test_plain_object_has_its_color_at_its_center(shape):
    attributes = draw_attributes(np.random.default_rng(0), 2_000, most_objects=1)
    images = paint(attributes, np.random.default_rng(1))
    rows = np.flatnonzero((attributes.shape[:, 0] == list(SHAPES).index(shape)) & (attributes.texture[:, 0] == 0))
    x, y = (np.rint(getattr(attributes, axis)[rows, 0]).astype(int) for axis in "xy")
    assert np.array_equal(images[rows, y, x], np.uint8(list(COLORS.values()))[attributes.color[rows, 0]])


def test_every_object_alone_can_be_seen_whole():
    attributes = draw_attributes(np.random.default_rng(0), 2_000, most_objects=1)
    images = paint(attributes, np.random.default_rng(1)).astype(float)
    noise = 5 * 9  # of the background
    background = np.array(list(BACKGROUNDS.values()), dtype=float)[attributes.background][:, None, None]
    seen = np.abs(images - background).max(axis=3) > noise
    assert (seen.sum(axis=(1, 2)) >= 6).mean() > 0.95
    assert seen[:, [0, -1]].mean() < 0.01, "few are cut by the picture's edge"


def test_cache_is_made_once_and_found_again(store):
    assert store.path == cache_folder() / f"scenes-v{scenes.VERSION}"
    made = (store.path / "store.json").stat().st_mtime_ns
    assert open_store("scenes").meta == store.meta
    assert (store.path / "store.json").stat().st_mtime_ns == made


A_TENTH = {split: n // 10 for split, n in SPLITS.items()}
ASK = f"""
from gaptune.data import open, scenes

scenes.make_scenes.__defaults__ = ({A_TENTH},)
store = open.open_store("scenes")
store.verify()
print(store.meta.content_hash)
"""


@pytest.mark.whole
def test_processes_that_ask_at_once_with_an_empty_cache_get_the_same_store(tmp_path):
    cache = tmp_path / "cache"
    env = os.environ | {"GAPTUNE_CACHE": str(cache)}
    asking = [
        subprocess.Popen([sys.executable, "-c", ASK], env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    answers = [process.communicate(timeout=300)[0].strip() for process in asking]
    assert answers == [make_scenes(tmp_path / "here", A_TENTH).meta.content_hash] * 2
    assert [path.name for path in cache.iterdir()] == [f"scenes-v{scenes.VERSION}"]


def test_damaged_cache_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path))
    made = make_scenes(tmp_path / f"scenes-v{scenes.VERSION}", TINY)
    (made.path / "val.arrow").write_bytes(b"")
    with pytest.raises(UserError, match="corrupt store: "):
        open_store("scenes")

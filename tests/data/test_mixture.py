"""What a mixture is trained on: nothing of its validation images, and equal images of several stores as one."""

import hashlib
import json

import numpy as np
import pytest

from gaptune.config import DataConfig
from gaptune.data import StoreWriter
from gaptune.data.open import open_training
from gaptune.data.store.keys import image_keys
from gaptune.data.store.mixture import Mixture
from gaptune.data.tokens import tokenize
from gaptune.engine.preflight import of_training
from gaptune.errors import UserError

SIDE = 16


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def image(number):
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def write(path, train, val=(), captions=2):
    """A store whose images are known by number; the first has one caption, the next two, and so on in turn."""
    with StoreWriter(path, SIDE, 8) as writer:
        for split, numbers in (("train", train), ("val", val)):
            for row, number in enumerate(numbers):
                texts = [f"dog {number} {nth}" for nth in range(1 + row % captions)]
                writer.add(split, image(number), texts, tokenize(texts, 8), id=f"{path.name}-{number}")
        return writer.finish(name=path.name, source={})


def mixed(tmp_path, **more):
    return open_training(DataConfig(mix={str(tmp_path / name): 1 for name in "ab"}, **more))


def test_validation_images_are_not_trained_on_in_any_store(tmp_path):
    write(tmp_path / "a", range(20), val=[100, 101, 5])  # 5 is in its own train, as in data sets kept as published
    write(tmp_path / "b", [50, 101, 51, 100, 52, 7], val=[0, 1, 2, 3])  # b's own val does not count
    store = mixed(tmp_path)
    split = store.split("train")
    ids = [f"a-{n}" for n in range(20) if n != 5] + ["b-50", "b-51", "b-52", "b-7"]
    assert split.ids == ids
    assert list(store.left_out.values()) == [1, 2]
    assert len(split) == store.meta.splits["train"].images == 23
    assert len(split.texts) == split.offsets[-1] == store.meta.splits["train"].captions
    for row, id in enumerate(ids):
        number = int(id[2:])
        assert np.array_equal(split.gather(np.array([row]))[0], image(number))
        texts = split.captions(row)
        assert texts
        assert all(text.startswith(f"dog {number} ") for text in texts)
        own = split.texts[split.offsets[row] : split.offsets[row + 1]]
        assert np.array_equal(own, tokenize(texts, 8))
    assert store.meta.splits["val"].images == 3
    store.verify()


def test_notes_report_the_images_that_are_left_out(tmp_path):
    write(tmp_path / "a", range(20), val=[100, 101])
    write(tmp_path / "b", [50, 101, 51, 100])
    told = list(of_training([4], mixed(tmp_path)))
    assert told == [
        "each epoch leaves out 2 of 22 images (the last partial batch)",
        f"2 train images of {tmp_path / 'b'} are in val of {tmp_path / 'a'}: not trained on",
    ]
    assert list(of_training([22], write(tmp_path / "c", range(22)))) == []


@pytest.mark.parametrize(("weight", "told"), [(0.1, False), (0.3, False), (0.31, True), (1, True)])
def test_note_reports_only_batches_that_need_more_images_than_a_store_has(tmp_path, weight, told):
    """0.3 of 10 are the 3 that it has, to the last digit."""
    write(tmp_path / "a", range(27), val=[100])
    write(tmp_path / "b", [50, 51, 52])
    mix = {str(tmp_path / "a"): 0.7, str(tmp_path / "b"): weight}
    notes = list(of_training([10], open_training(DataConfig(mix=mix))))
    assert notes == ([notes[0]] if told else [])
    assert all("which has 3: the same image comes several times in a batch" in note for note in notes)


def test_val_is_that_of_the_store_which_is_named(tmp_path):
    write(tmp_path / "a", range(8), val=[100])
    write(tmp_path / "b", range(20, 28))
    write(tmp_path / "c", [200], val=[3, 22, 23])
    store = mixed(tmp_path, store=str(tmp_path / "c"))
    assert list(store.left_out.values()) == [1, 2]
    assert {"a-3", "b-22", "b-23"}.isdisjoint(store.split("train").ids)


def test_store_with_only_validation_images_cannot_be_mixed(tmp_path):
    write(tmp_path / "a", range(8), val=[100, 101])
    write(tmp_path / "b", [101, 100])
    with pytest.raises(UserError, match=r"b cannot be mixed in: all its train images are in val of .*a$"):
        mixed(tmp_path)


def test_equal_images_in_several_stores_have_the_same_key(tmp_path):
    write(tmp_path / "a", range(6), val=[100])
    write(tmp_path / "b", [9, 4, 8, 0])
    assert mixed(tmp_path).split("train").same.tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 8, 0]
    write(tmp_path / "c", [10, 11])
    other = open_training(DataConfig(mix={str(tmp_path / name): 1 for name in "ac"}))
    assert other.split("train").same is None


def test_mixture_without_common_images_keeps_its_hash_and_another_does_not(tmp_path):
    """Trials that were trained on images of val do not share a front with those that were not."""
    stores = {"a": write(tmp_path / "a", range(6), val=[100]), "b": write(tmp_path / "b", [20, 21])}

    def of(**parts):
        mine = Mixture(stores["a"], parts, dict.fromkeys(parts, 1.0)).meta.content_hash
        listed = [stores["a"].meta.content_hash, [[store.meta.content_hash, 1.0] for store in parts.values()]]
        return mine, hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    mine, before = of(**stores)
    assert mine == before
    mine, before = of(a=stores["a"], c=write(tmp_path / "c", [20, 100]))
    assert mine != before


def test_hashes_are_read_from_the_cache_and_recomputed_if_damaged(tmp_path, cache):
    store = write(tmp_path / "a", range(300), val=[100])
    split, sha256 = store.split("train"), store.meta.splits["train"].sha256
    keys = image_keys(split, sha256)
    assert len(set(keys.tolist())) == 300
    (file,) = (cache / "keys").iterdir()
    np.save(file, keys[::-1])
    assert np.array_equal(image_keys(split, sha256), keys[::-1]), "from the cache"
    for damaged in (b"", file.read_bytes()[:90], b"no array"):
        file.write_bytes(damaged)
        assert np.array_equal(image_keys(split, sha256), keys)
        assert np.array_equal(np.load(file), keys)


def test_image_keys_are_computed_when_the_cache_is_not_writable(tmp_path, cache, monkeypatch):
    store = write(tmp_path / "a", range(4), val=[100])
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path / "file"))
    assert len(image_keys(store.split("train"), store.meta.splits["train"].sha256)) == 4

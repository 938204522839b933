"""Stores of features: arrays of their own dtype and width, for several texts per image."""

import json

import numpy as np
import pyarrow as pa
import pytest

from gaptune.data import FeatureMeta, Mixture, StoreWriter
from gaptune.data.info import describe
from gaptune.data.open import open_store
from gaptune.data.store.meta import META, PROMPT_FEATURES, SplitMeta, content_hash_of, sha256_of
from gaptune.data.tasks import allowed_tasks
from gaptune.errors import UserError

IMAGES = 5


def arrays(dtype, image=6, text=4, seed=0):
    """Features of five images, and of one to three texts of each."""
    draw = np.random.default_rng(seed)
    texts = [draw.standard_normal((1 + row % 3, text)).astype(dtype) for row in range(IMAGES)]
    return draw.standard_normal((IMAGES, image)).astype(dtype), texts


def write(path, features, seed=0):
    """A store of features with the splits train and val."""
    images, texts = arrays(features.dtype, features.image, features.text, seed)
    with StoreWriter(path, features=features) as writer:
        for split in ("train", "val"):
            for row in range(IMAGES):
                captions = [f"text {row} {index}" for index in range(len(texts[row]))]
                writer.add(split, images[row], captions, texts[row], id=f"{split}-{row}", label=row % 2)
        return writer.finish(name="features", source={})


def write_labeled(path, *, prompts=None, labels=(0, 1, 1, 0, 1), prefix="a"):
    """Pairs in train and val, labeled images without texts in test, and features of class prompts."""
    images, texts = arrays("float16")
    with StoreWriter(path, features=FeatureMeta(image=6, text=4)) as writer:
        for row in range(IMAGES):
            captions = [f"{prefix} {index}" for index in range(len(texts[row]))]
            for split in ("train", "val"):
                writer.add(split, images[row], captions, texts[row], id=f"{prefix}-{row}")
            writer.add("test", images[row], [], np.empty((0, 4)), id=f"{prefix}-{row}", label=labels[row])
        return writer.finish(name="features", source={}, classes=["cat", "dog"], prompt_features=prompts)


def prompt_features(seed=0):
    return np.random.default_rng(seed).standard_normal((2, 3, 4)).astype(np.float16)


def test_store_holds_labeled_images_without_texts_and_features_of_prompts(tmp_path):
    write_labeled(tmp_path / "store", prompts=prompt_features())
    store = open_store(tmp_path / "store")
    store.verify()
    test = store.split("test")
    assert (test.labels.tolist(), test.texts.shape, set(test.offsets.tolist())) == ([0, 1, 1, 0, 1], (0, 4), {0})
    assert np.array_equal(store.prompt_features(), prompt_features())
    assert store.meta.prompts == ("prompt 1", "prompt 2", "prompt 3")
    assert allowed_tasks(store) == ("zeroshot",)
    assert open_store(f"file://{store.path}").prompt_features().shape == (2, 3, 4)


def test_content_hash_covers_features_pairs_labels_and_prompts_but_no_names(tmp_path):
    changes = {
        "same": {"prompts": prompt_features()},
        "names": {"prompts": prompt_features(), "prefix": "b"},
        "labels": {"prompts": prompt_features(), "labels": (0, 1, 1, 0, 0)},
        "prompts": {"prompts": prompt_features(1)},
        "no prompts": {},
    }
    made = {name: write_labeled(tmp_path / name, **change).meta for name, change in changes.items()}
    assert made["names"].content_hash == made["same"].content_hash
    assert made["names"].splits["train"].sha256 != made["same"].splits["train"].sha256
    assert len({meta.content_hash for meta in made.values()}) == 4


@pytest.mark.parametrize("damage", ["byte", "missing", "truncated", "shape", "said"])
def test_damaged_features_of_prompts_are_refused(damage, tmp_path):
    store = write_labeled(tmp_path / "store", prompts=prompt_features())
    file = store.path / PROMPT_FEATURES
    content = file.read_bytes()
    if damage == "byte":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[:-1])
    elif damage == "shape":
        edit(store.path, prompts=["prompt 1"])
    else:
        edit(store.path, prompt_features={"bytes": len(content), "sha256": "0"})
    with pytest.raises(UserError, match="corrupt store: "):
        open_store(store.path).verify()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_features_are_read_back_with_their_dtype_and_widths(dtype, tmp_path):
    features = FeatureMeta(image=6, text=4, dtype=dtype)
    write(tmp_path / "store", features)
    store = open_store(tmp_path / "store")
    store.verify()
    assert (store.meta.features, store.meta.image_size, store.meta.context_length) == (features, 0, 0)
    told = dict(describe(store))
    assert told["image features"].startswith(f"6 numbers ({dtype}), length ")
    assert told["text features"].startswith(f"4 numbers ({dtype}), length ")
    assert told["val captions"] == "1.80 per image (1 to 3)"
    images, texts = arrays(dtype)
    split = store.split("val")
    rows = np.array([3, 0, 3])
    assert split.gather(rows).dtype == split.texts.dtype == dtype
    assert np.array_equal(split.gather(rows), images[rows])
    assert np.array_equal(split.texts, np.concatenate(texts))
    assert split.offsets.tolist() == [0, 1, 3, 6, 7, 9]
    assert split.captions(1) == ["text 1 0", "text 1 1"]
    assert split.labels.tolist() == [0, 1, 0, 1, 0]


def test_file_holds_numbers_that_other_programs_can_read(tmp_path):
    write(tmp_path / "store", FeatureMeta(image=6, text=4))
    with pa.memory_map(str(tmp_path / "store" / "train.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
        images, texts = arrays("float16")
        assert np.array_equal(np.array(table["image_features"].to_pylist(), dtype=np.float16), images)
        assert np.array_equal(np.array(table["text_features"][2].as_py(), dtype=np.float16), texts[2])


def edit(path, **changes):
    file = path / META
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            {"image": 7, "text": 4, "dtype": "float16"},
            r"its images have .*\[6\], but store.json means .*\[7\]",
        ),
        ({"image": 6, "text": 8, "dtype": "float16"}, "its token rows have the type"),
        ({"image": 3, "text": 2, "dtype": "float32"}, "its images have the type"),
        ({"image": 6, "text": 4, "dtype": "int8"}, "features.dtype is 'int8'"),
        ({"image": 0, "text": 4, "dtype": "float16"}, "features.image is 0"),
        ({"image": 6}, "TypeError"),
        ("6", "TypeError"),
    ],
)
def test_description_that_does_not_match_the_file_is_refused(features, message, tmp_path):
    write(tmp_path / "store", FeatureMeta(image=6, text=4))
    edit(tmp_path / "store", features=features)
    with pytest.raises(UserError, match=f"corrupt store: .*{message}"):
        open_store(tmp_path / "store").verify()


def write_format_1(path, images, texts):
    """A store of features as gaptune 0.1.0 wrote it: the bytes of both, as if they were pixels and tokens."""
    width = images.shape[1]
    schema = pa.schema(
        {
            "id": pa.string(),
            "image": pa.binary(2 * width),
            "tokens": pa.list_(pa.binary(2 * width)),
            "captions": pa.list_(pa.string()),
            "label": pa.int32(),
        }
    )
    path.mkdir()
    splits = {}
    for split in ("train", "val"):
        file = path / f"{split}.arrow"
        rows = {
            "id": [f"{split}-{row}" for row in range(len(images))],
            "image": [image.tobytes() for image in images],
            "tokens": [[each.tobytes() for each in own] for own in texts],
            "captions": [[f"text {row} {index}" for index in range(len(own))] for row, own in enumerate(texts)],
            "label": [None] * len(images),
        }
        with pa.ipc.new_file(str(file), schema) as out:
            out.write_batch(pa.record_batch([pa.array(rows[each.name], each.type) for each in schema], schema=schema))
        captions = sum(map(len, texts))
        splits[split] = {
            "images": len(images),
            "captions": captions,
            "bytes": file.stat().st_size,
            "sha256": sha256_of(file),
        }
    hashed = content_hash_of({name: SplitMeta(**split) for name, split in splits.items()}, [], [])
    meta = {
        "format": 1,
        "name": "old",
        "image_size": 1,
        "context_length": width,
        "content_hash": hashed,
        "splits": splits,
        "vocabulary": [],
        "classes": [],
        "prompts": [],
        "source": {"builder": "features"},
        "features": width,
    }
    (path / META).write_text(json.dumps(meta))


def test_store_of_format_1_opens_with_the_same_numbers(tmp_path):
    images, texts = arrays("float16", 6, 6)
    write_format_1(tmp_path / "old", images, texts)
    old = open_store(tmp_path / "old")
    old.verify()
    assert old.meta.features == FeatureMeta(image=6, text=6)
    write(tmp_path / "new", FeatureMeta(image=6, text=6))
    one, other = old.split("train"), open_store(tmp_path / "new").split("train")
    rows = np.arange(IMAGES)
    assert np.array_equal(one.gather(rows), other.gather(rows))
    assert np.array_equal(one.texts, other.texts)
    assert one.texts.dtype == np.float16


def test_store_of_format_2_opens_under_its_own_hash(tmp_path):
    path = write(tmp_path / "old", FeatureMeta(image=6, text=4)).path
    meta = json.loads((path / META).read_text())
    splits = {name: {key: split[key] for key in split if key != "content"} for name, split in meta["splits"].items()}
    hashed = content_hash_of({name: SplitMeta(**split) for name, split in splits.items()}, [], [])
    del meta["prompt_features"]
    (path / META).write_text(json.dumps(meta | {"format": 2, "splits": splits, "content_hash": hashed}))
    old = open_store(path)
    old.verify()
    assert (old.meta.content_hash, old.prompt_features()) == (hashed, None)


def test_mixture_of_features_holds_those_of_each_store(tmp_path):
    features = FeatureMeta(image=6, text=4, dtype="float32")
    home, other = write(tmp_path / "a", features, seed=1), write(tmp_path / "b", features, seed=2)
    with StoreWriter(tmp_path / "c", features=FeatureMeta(image=6, text=4)) as writer:
        writer.add("train", np.zeros(6), ["a text"], np.zeros((1, 4)), id="0")
        half = writer.finish(name="c", source={})
    with pytest.raises(UserError, match=r"has features of .*float16\), .* has features of .*float32\)"):
        Mixture(home, {"c": half}, {"c": 1})
    split = Mixture(home, {"b": other}, {"b": 1}).split("train")
    assert np.array_equal(split.gather(np.array([4, 1])), arrays("float32", seed=2)[0][[4, 1]])
    assert (split.label(0), len(split.some_labels), split.captions(1)) == (None, 0, ["text 1 0", "text 1 1"])

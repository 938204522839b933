"""Stores from features in files: one content whatever the format, the order of rows, and the keys."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedding_files import features, write_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from gaptune.data import open_store
from gaptune.data.info import describe, splits_table
from gaptune.data.tasks import other_treatment

IMAGES, TEXTS = 40, 90
BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
SHARED = Path(os.environ.get("GAPTUNE_TEST_DATA", BESIDE)) / "features"


def written(folder, form, name, array):
    """The array in a file of some format; the argument that means it."""
    path = folder / f"{name}.{form.split('-')[0]}"
    if form == "npy":
        np.save(path, array)
    elif form == "npy-big":
        np.save(path, array.astype(array.dtype.newbyteorder(">")))
    elif form == "npy-fortran":
        np.save(path, np.asfortranarray(array))
    elif form == "npz":
        np.savez(path, **{name: array, "other": array[:2]})
        return f"{path}:{name}"
    elif form == "npz-compressed":
        np.savez_compressed(path, array)
    elif form == "safetensors":
        save_file({"other": array[:2].copy(), name: np.ascontiguousarray(array)}, path)
        return f"{path}:{name}"
    elif form == "parquet-lists":
        pq.write_table(pa.table({"key": range(len(array)), name: list(array)}), path, row_group_size=7)
    elif form == "parquet-fixed":
        values = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
        pq.write_table(pa.table({name: values, "b": values}), path, row_group_size=7)
        return f"{path}:{name}"
    elif form == "parquet-columns":
        pq.write_table(pa.table({f"f{column}": array[:, column] for column in range(array.shape[1])}), path)
    else:
        raise ValueError(form)
    return str(path)


FORMS = [
    "npy",
    "npy-big",
    "npy-fortran",
    "npz",
    "npz-compressed",
    "safetensors",
    "parquet-lists",
    "parquet-fixed",
    "parquet-columns",
]


def pairs():
    """Rows of images and texts: two or three texts for each image, one text of two images."""
    rows = [(text % IMAGES, text) for text in range(TEXTS)]
    return np.array([*rows, (3, 0)])


def built(gaptune, out, *words):
    code, said, error = gaptune("data", "features", *words, "--out", out)
    assert code == 0, error
    return open_store(out), said


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The arguments and the content hash of the features as plain npy files."""
    from gaptune.data.embeddings import Request, build_embeddings
    from gaptune.data.embeddings.places import Place

    folder = tmp_path_factory.mktemp("reference")
    image, text = features(IMAGES, 6), features(TEXTS, 4, seed=1)
    np.save(folder / "image.npy", image)
    np.save(folder / "text.npy", text)
    table = write_csv(folder / "pairs.csv", ("image_row", "text_row"), pairs())
    request = Request(
        image={"train": [Place(folder / "image.npy", None)]},
        text={"train": [Place(folder / "text.npy", None)]},
        pairs={"train": Place(table, None)},
        val_fraction=0.3,
        normalize=True,
        center=True,
    )
    return build_embeddings(request, out=folder / "store")


TREATED = ("--val-fraction", "0.3", "--normalize", "--center")


def test_bfloat16_is_read_as_torch_reads_it(tmp_path):
    import torch
    from safetensors.torch import save_file as save_tensors

    from gaptune.data.embeddings.arrays import open_features
    from gaptune.data.embeddings.places import Place

    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_tensors({"image": x}, tmp_path / "image.safetensors")
    found = open_features(Place(tmp_path / "image.safetensors", None))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x.float().numpy())


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_content(form, reference, gaptune, tmp_path):
    image = written(tmp_path, form, "image", features(IMAGES, 6))
    text = written(tmp_path, form, "text", features(TEXTS, 4, seed=1))
    table = write_csv(tmp_path / "pairs.csv", ("image_row", "text_row"), pairs())
    store, _ = built(
        gaptune, tmp_path / "store", "--image", f"train={image}", "--text", f"train={text}",
        "--pairs", f"train={table}", *TREATED,
    )  # fmt: skip
    assert store.meta.content_hash == reference.meta.content_hash
    store.verify()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), by=st.sampled_from(["table", "key", "parts"]))
def test_shuffled_and_renamed_rows_give_the_same_content(seed, by, reference, gaptune, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shuffled")
    draw = np.random.default_rng(seed)
    image, text = features(IMAGES, 6), features(TEXTS, 4, seed=1)
    owner = draw.permutation(pairs())
    text, owner = text[owner[:, 1]], owner[:, 0]  # a row for each pair: the text of two images is there twice
    order = draw.permutation(IMAGES)
    image, owner = image[order], np.argsort(order)[owner]
    words = ["--image", f"train={written(folder, 'npy', 'image', image)}"]
    words += ["--text", f"train={written(folder, 'npy', 'text', text)}"]
    if by == "parts":
        for name, array in (("img", image), ("text", text)):
            (folder / f"{name}_emb").mkdir()
            for part, rows in enumerate(np.array_split(array, 11)):
                np.save(folder / f"{name}_emb" / f"{name}_emb_{part}.npy", rows)
        words = ["--image", f"train={folder}", "--text", f"train={folder}"]
    if by == "key":
        keys = [f"{draw.integers(2**40)}-{row}" for row in range(IMAGES)]
        (folder / "image.txt").write_text("\n".join(keys))
        write_csv(folder / "text.csv", ("url", "key"), [("x", keys[row]) for row in owner])
        words += ["--image-keys", f"train={folder / 'image.txt'}", "--text-keys", f"train={folder / 'text.csv'}"]
    else:
        table = pa.table({"i": owner, "t": range(len(owner))})
        pq.write_table(table, folder / "pairs.parquet")
        words += ["--pairs", f"train={folder / 'pairs.parquet'}:i,t"]
    store, _ = built(gaptune, folder / "store", *words, *TREATED)
    assert store.meta.content_hash == reference.meta.content_hash
    for split in ("train", "val"):
        one, other = store.split(split), reference.split(split)
        rows = np.arange(len(one))
        assert np.array_equal(one.gather(rows), other.gather(rows))
        assert np.array_equal(one.texts, other.texts)
        assert np.array_equal(one.offsets, other.offsets)


def test_clip_retrieval_parts_bring_keys_and_captions(gaptune, tmp_path):
    for name, width in (("img", 6), ("text", 4)):
        (tmp_path / f"{name}_emb").mkdir()
        for part in (0, 1, 10):
            np.save(tmp_path / f"{name}_emb" / f"{name}_emb_{part}.npy", features(20, width, seed=part))
    (tmp_path / "metadata").mkdir()
    for part in (0, 1, 10):
        names = [f"{part:05}{row:04}" for row in range(20)]
        table = {"key": names, "caption": [f"caption of {name}" for name in names]}
        pq.write_table(pa.table(table), tmp_path / "metadata" / f"metadata_{part}.parquet")
    store, _ = built(
        gaptune, tmp_path / "store", "--image", f"test={tmp_path}", "--text", f"test={tmp_path / 'text_emb'}",
    )  # fmt: skip
    test = store.split("test")
    row = test.ids.index("000100003")
    assert test.captions(row) == ["caption of 000100003"]
    assert np.array_equal(test.gather(np.array([row]))[0], features(20, 6, seed=10)[3])
    assert np.array_equal(test.texts[test.offsets[row]], features(20, 4, seed=10)[3])


def test_labels_classes_and_prompts_allow_classification(gaptune, tmp_path):
    from gaptune.data.tasks import allowed_tasks

    words = []
    names = ["cat", "dog", "owl"]
    for split in ("train", "test"):
        labels = np.arange(30) % 3
        np.save(tmp_path / f"{split}.npy", features(30, 6, seed=len(split)))
        (tmp_path / f"{split}.txt").write_text("\n".join(names[label] for label in labels))
        words += ["--image", f"{split}={tmp_path / split}.npy", "--labels", f"{split}={tmp_path / split}.txt"]
    np.save(tmp_path / "prompts.npy", features(6, 4))
    (tmp_path / "classes.txt").write_text("owl\ncat\ndog\n")
    words += ["--classes", tmp_path / "classes.txt", "--prompts", tmp_path / "prompts.npy"]
    store, said = built(gaptune, tmp_path / "store", *words)
    assert allowed_tasks(store) == ("zeroshot", "probe", "knn")
    assert store.meta.classes == ("owl", "cat", "dog")
    assert np.array_equal(store.prompt_features(), features(6, 4).reshape(3, 2, 4))
    test = store.split("test")
    known = {features(30, 6, seed=4)[row].tobytes(): names[row % 3] for row in range(30)}
    found = [store.meta.classes[label] for label in test.labels]
    assert found == [known[image.tobytes()] for image in test.gather(np.arange(30))]
    assert "prompt features  2 for each of 3 classes" in said
    assert "test captions    none" in said


def test_repeated_images_are_merged_and_those_of_val_left_out_of_train(gaptune, tmp_path):
    image, text = features(IMAGES, 6), features(IMAGES, 4, seed=1)
    image[1], image[2], text[2] = image[0], image[0], text[0]
    write = {"i": image, "t": text, "vi": image[30:], "vt": text[30:]}
    for name, array in write.items():
        np.save(tmp_path / f"{name}.npy", array)
    store, _ = built(
        gaptune, tmp_path / "store", "--image", f"train={tmp_path}/i.npy", "--text", f"train={tmp_path}/t.npy",
        "--image", f"validation={tmp_path}/vi.npy", "--text", f"valid={tmp_path}/vt.npy",
    )  # fmt: skip
    assert splits_table(store)[1] == ("train", "28", "29", "0", "2", "1 repeated text, 10 in val")
    assert splits_table(store)[2] == ("val", "10", "10", "0", "0", "-")


def test_texts_and_images_without_partner_are_left_out_and_counted(gaptune, tmp_path):
    np.save(tmp_path / "i.npy", features(10, 6))
    np.save(tmp_path / "t.npy", features(12, 4))
    np.save(tmp_path / "ik.npy", np.arange(10))
    np.save(tmp_path / "tk.npy", np.arange(4, 16))
    store, _ = built(
        gaptune, tmp_path / "store", "--image", f"test={tmp_path}/i.npy", "--text", f"test={tmp_path}/t.npy",
        "--image-keys", f"test={tmp_path}/ik.npy", "--text-keys", f"test={tmp_path}/tk.npy",
    )  # fmt: skip
    assert splits_table(store)[1] == ("test", "6", "6", "0", "0", "4 no caption, 6 text without an image")


@pytest.mark.parametrize(
    ("types", "stored"),
    [(("f2", "f2"), "float16"), (("f2", "f4"), "float32"), (("f8", "f8"), "float32")],
    ids=lambda each: "-".join(each) if isinstance(each, tuple) else each,
)
def test_the_widest_type_is_stored(types, stored, gaptune, tmp_path):
    np.save(tmp_path / "i.npy", features(30, 6).astype(types[0]))
    np.save(tmp_path / "t.npy", features(30, 4).astype(types[1]))
    store, _ = built(
        gaptune, tmp_path / "store", "--image", f"test={tmp_path}/i.npy", "--text", f"test={tmp_path}/t.npy"
    )
    assert store.meta.features.dtype == stored


def test_normalized_and_centered_features_are_described(gaptune, tmp_path):
    draw = np.random.default_rng(0)
    np.save(tmp_path / "i.npy", (5 + draw.standard_normal((400, 6))).astype("f4"))
    np.save(tmp_path / "t.npy", (1 + draw.standard_normal((400, 4))).astype("f4"))
    words = ["--image", f"train={tmp_path}/i.npy", "--text", f"train={tmp_path}/t.npy"]
    _, said = built(gaptune, tmp_path / "plain", *words)
    assert "(not normalized), mean 12." in said
    _, said = built(gaptune, tmp_path / "normalized", *words, "--normalize")
    assert "6 numbers (float32), length 1.000, mean 0.98 long: not centered" in said
    store, said = built(gaptune, tmp_path / "centered", *words, "--center")
    assert said.count("mean 0.00 long: centered") == 2
    assert "treatment       training mean subtracted" in said
    means = json.loads((store.path / "store.json").read_text())["source"]["center"]
    assert (len(means["image"]), len(means["text"])) == (6, 4)
    assert np.allclose(means["image"], 5, atol=0.2)


def test_evaluation_data_are_treated_as_the_training_data_were(gaptune, tmp_path):
    draw = np.random.default_rng(0)
    np.save(tmp_path / "i.npy", (5 + draw.standard_normal((400, 6))).astype("f4"))
    np.save(tmp_path / "t.npy", (1 + draw.standard_normal((400, 4))).astype("f4"))
    np.save(tmp_path / "labeled.npy", labeled := (3 + draw.standard_normal((20, 6))).astype("f4"))
    np.save(tmp_path / "prompts.npy", prompts := (1 + draw.standard_normal((2, 4))).astype("f4"))
    (tmp_path / "labels.txt").write_text("0\n1\n" * 10)
    words = ["--image", f"train={tmp_path}/i.npy", "--text", f"train={tmp_path}/t.npy", "--normalize", "--center"]
    training, _ = built(gaptune, tmp_path / "training", *words)
    words = ["--image", f"test={tmp_path}/labeled.npy", "--labels", f"test={tmp_path}/labels.txt"]
    words += ["--prompts", tmp_path / "prompts.npy"]
    plain, _ = built(gaptune, tmp_path / "plain", *words)
    unlike = "made with neither --normalize nor --center, the training features with --normalize and --center"
    assert unlike in other_treatment(training, plain)
    store, said = built(gaptune, tmp_path / "alike", *words, "--treated-as", tmp_path / "training")
    assert "normalized, training mean subtracted" in said
    assert other_treatment(training, store) == ""
    means = training.meta.source["center"]
    expected = labeled / np.linalg.norm(labeled, axis=1, keepdims=True) - means["image"]
    found = store.split("test").gather(np.arange(20))
    assert np.allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-6)
    expected = prompts / np.linalg.norm(prompts, axis=1, keepdims=True) - means["text"]
    assert np.allclose(store.prompt_features()[:, 0], expected, atol=1e-6)


def test_features_that_a_user_brings(gaptune, tmp_path):
    if not SHARED.exists():
        pytest.skip("there is no folder features; GAPTUNE_TEST_DATA names the folder that holds it")
    words = []
    for split in ("train", "val"):
        for kind, ending in (("image", "image.npy"), ("text", "text.npy"), ("pairs", "pairs.csv")):
            words += [f"--{kind}", f"{split}={SHARED}/flickr8k_{split}_{ending}"]
    for split in ("train", "test"):
        words += ["--image", f"probe_{split}={SHARED}/cifar10_{split}_image.npy"]
        words += ["--labels", f"probe_{split}={SHARED}/cifar10_{split}_labels.npy"]
    store, _ = built(gaptune, tmp_path / "store", *words, "--prompts", SHARED / "cifar10_prompts_text.npy")
    store.check_trainable()
    told = dict(describe(store))
    assert told["image features"].startswith("1,280 numbers (float16), length 10.8 to 23.1 (not normalized), mean 10.0")
    assert told["text features"] == "384 numbers (float16), length 1.000, mean 0.28 long: not centered"
    assert told["prompt features"] == "7 for each of 10 classes"
    sizes = {name: (split.images, split.captions) for name, split in store.meta.splits.items()}
    assert sizes == {"train": (6091, 30444), "val": (1000, 4998), "probe_train": (4000, 0), "probe_test": (2000, 0)}
    with (SHARED / "flickr8k_val_pairs.csv").open() as file:
        own = [int(row["text_row"]) for row in csv.DictReader(file) if row["image_row"] == "7"]
    val = store.split("val")
    row = val.ids.index("7")
    image = np.load(SHARED / "flickr8k_val_image.npy", mmap_mode="r")[7]
    texts = np.load(SHARED / "flickr8k_val_text.npy", mmap_mode="r")[own]
    assert np.array_equal(val.gather(np.array([row]))[0], image)
    found = val.texts[val.offsets[row] : val.offsets[row + 1]]
    assert sorted(map(bytes, found)) == sorted(map(bytes, texts))

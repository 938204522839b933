"""Image folders and CIFAR-10: benchmarks that are kept as they were published."""

import os
import pickle
import shutil

import numpy as np
import pytest
from labeled_files import CIFAR_CLASSES, write_cifar10, write_cifar10_archive, write_image_folder

from gaptune.data.build import build
from gaptune.data.open import open_store
from gaptune.data.sources import Cifar10, ImageFolder
from gaptune.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def built(reference):
    return open_store(reference, image_size=32, context_length=12)


def test_image_folder_has_its_folders_as_labels_and_its_classes_as_captions(tmp_path):
    store = built(f"imagefolder:{write_image_folder(tmp_path / 'data')}")
    assert store.meta.classes == ("dog", "red fox")
    assert "a photo of the small {}." in store.meta.prompts
    assert set(store.meta.splits) == {"train", "test"}
    test = store.split("test")
    assert test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.ids == [f"test/{name}/{index}.png" for name in ("dog", "red_fox") for index in range(3)]
    assert test.captions(3) == ["a photo of a red fox"]
    store.verify()


def test_class_folders_without_splits_are_a_test_split(tmp_path):
    write_image_folder(tmp_path, splits=("data",))
    assert list(built(f"imagefolder:{tmp_path / 'data'}").meta.splits) == ["test"]


def test_class_names_and_prompts_beside_the_folders_are_used(tmp_path):
    folder = write_image_folder(tmp_path / "data")
    (folder / "classnames.txt").write_text("golden retriever\nvulpes vulpes\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a {c} here\nthe {c}\n")
    meta = built(f"imagefolder:{folder}").meta
    assert meta.classes == ("golden retriever", "vulpes vulpes")
    assert meta.prompts == ("a {} here", "the {}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "there is no folder .*data"),
        (lambda folder: [shutil.rmtree(folder / split) for split in ("train", "test")], "has no class folders"),
        (lambda folder: shutil.rmtree(folder / "test" / "dog"), "test lacks class folders that other splits have: dog"),
        (lambda folder: (folder / "classnames.txt").write_text("one\n"), "2 class folders, but classnames.txt names 1"),
        (
            lambda folder: (folder / "zeroshot_classification_templates.txt").write_text("a {c}\nno place\n"),
            r"templates.txt:2: 'no place' must have \{c\} once",
        ),
    ],
)
def test_other_folder_layout_is_refused_in_one_line(change, message, tmp_path):
    folder = write_image_folder(tmp_path / "data")
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        built(f"imagefolder:{folder}")
    assert "\n" not in str(caught.value)


def test_benchmark_keeps_images_that_it_repeats(tmp_path):
    folder = write_image_folder(tmp_path / "data")
    shutil.copy(folder / "test" / "dog" / "0.png", folder / "test" / "dog" / "9.png")
    shutil.copy(folder / "test" / "dog" / "0.png", folder / "train" / "dog" / "9.png")
    meta = built(f"imagefolder:{folder}").meta
    assert {name: split.images for name, split in meta.splits.items()} == {"train": 7, "test": 7}
    assert meta.source["merged"] == {"train": 0, "test": 0}


def test_benchmark_can_be_trained_on_when_val_is_asked_for(tmp_path):
    source = ImageFolder(write_image_folder(tmp_path / "data", each=40))
    build(source, out=tmp_path / "whole", image_size=16, context_length=8)
    with pytest.raises(UserError, match="cannot be trained on: it has no val images"):
        open_store(tmp_path / "whole").check_trainable()
    store = build(source, out=tmp_path / "store", image_size=16, context_length=8, val_fraction=0.25)
    store.check_trainable()
    assert 8 <= len(store.split("val")) <= 32
    assert len(store.split("val")) + len(store.split("train")) == 80
    assert len(store.split("test")) == 80


def test_named_data_set_is_built_once_for_each_size_and_again_when_a_file_changes(tmp_path, cache):
    folder = write_image_folder(tmp_path / "data")
    first = built(f"imagefolder:{folder}")
    before = (first.path / "store.json").stat().st_mtime_ns
    assert built(f"imagefolder:{os.path.relpath(folder)}").path == first.path, "by another name of the same folder"
    assert (first.path / "store.json").stat().st_mtime_ns == before
    assert first.path.is_relative_to(cache)
    assert open_store(f"imagefolder:{folder}", image_size=16, context_length=12).path != first.path
    assert open_store(f"imagefolder:{folder}", image_size=32, context_length=13).path != first.path
    shutil.copy(folder / "test" / "dog" / "0.png", folder / "test" / "dog" / "9.png")
    again = built(f"imagefolder:{folder}")
    assert again.path != first.path
    assert len(again.split("test")) == 7


def test_224_pixels_and_77_tokens_are_the_default(tmp_path):
    meta = open_store(f"imagefolder:{write_image_folder(tmp_path / 'data')}").meta
    assert (meta.image_size, meta.context_length) == (224, 77)


def test_unknown_kind_is_refused_with_the_nearest_one():
    with pytest.raises(UserError, match=r"no data set is of the kind 'imagefoldr' \(did you mean 'imagefolder'\?\)"):
        open_store("imagefoldr:/data")


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", ["above", "inside", "archive", "above archive"])
def test_cifar_10_is_read_as_it_was_written(place, protocol, tmp_path):
    images = write_cifar10(tmp_path / "data", protocol=protocol)
    where = tmp_path / "data"
    if "archive" in place:
        archive = write_cifar10_archive(tmp_path / "data")
        shutil.rmtree(tmp_path / "data" / "cifar-10-batches-py")
        where = archive if place == "archive" else where
    elif place == "inside":
        where = where / "cifar-10-batches-py"
    store = built(f"cifar10:{where}")
    assert store.meta.classes == tuple(CIFAR_CLASSES)
    assert len(store.meta.prompts) == 18
    assert store.meta.prompts[0] == "a photo of a {}."
    train, test = store.split("train"), store.split("test")
    assert (len(train), len(test)) == (20, 4)
    expected = np.concatenate([images[f"data_batch_{number}"] for number in range(1, 6)])
    assert np.array_equal(train.gather(np.arange(20)), expected), "32 pixels are kept as they are"
    assert test.labels.tolist() == [5, 6, 7, 8]
    assert test.captions(0) == ["a photo of a dog"]


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("made-by-a-pickle",))


@pytest.mark.parametrize("content", [pickle.dumps(Evil()), pickle.dumps({"data": Evil()}, protocol=2)])
def test_pickle_with_code_is_refused_before_it_runs(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "data")
    (tmp_path / "data" / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(UserError, match=r"test_batch cannot be read: it asks for (posix|nt)\.mkdir"):
        built(f"cifar10:{tmp_path / 'data'}")
    assert not (tmp_path / "made-by-a-pickle").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", pickle.dumps([]), pickle.dumps({}), pickle.dumps({"data": np.zeros((2, 3)), "labels": [1, 2]})],
)
def test_broken_batch_is_refused_in_one_line_and_leaves_no_files(content, tmp_path, cache):
    write_cifar10(tmp_path / "data")
    (tmp_path / "data" / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(UserError, match="data_batch_3") as caught:
        built(f"cifar10:{tmp_path / 'data'}")
    assert "\n" not in str(caught.value)
    assert not [path for path in (cache / "built").iterdir() if path.is_dir()]


def test_folder_without_cifar_10_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"there is no CIFAR-10 at .*nowhere"):
        Cifar10.at(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is not CIFAR-10"):
        Cifar10.at(str(tmp_path / "empty"))


@pytest.mark.whole
def test_real_photographs_by_class_become_a_store(cifar10):
    store = built(f"imagefolder:{cifar10}")
    assert store.meta.classes == tuple(CIFAR_CLASSES)
    assert np.bincount(store.split("train").labels).tolist() == [1000] * 10
    assert np.bincount(store.split("test").labels).tolist() == [200] * 10

"""Folders of images, and COCO's files, as they are found in the wild."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from coco_files import picture
from image_files import encoded

from gaptune.cli import cli
from gaptune.data.build import build
from gaptune.data.sources import Coco, ImageFolder, Mmvp
from gaptune.errors import UserError


def add(folder, count=3, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        (folder / f"{number}.png").write_bytes(encoded(picture(number), "PNG"))


def layout(root, *splits):
    for index, split in enumerate(splits):
        for number, name in enumerate(("cat", "dog")):
            add(root / split / name, start=100 * index + 10 * number)
    return root


def made(source, folder, **options):
    return build(source, out=folder / "store", image_size=16, context_length=12, **options)


def sizes(store):
    return {name: split.images for name, split in store.meta.splits.items()}


@pytest.mark.parametrize(
    "names", [("train", "validation", "test"), ("Training", "dev", "Test"), ("train2017", "val2017", "testing")]
)
def test_folders_of_splits_have_several_names(names, tmp_path):
    assert sizes(made(ImageFolder.at(str(layout(tmp_path / "d", *names))), tmp_path)) == dict.fromkeys(
        ("train", "val", "test"), 6
    )


def test_two_folders_of_one_split_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"val and .*validation are both val"):
        ImageFolder.at(str(layout(tmp_path, "train", "val", "validation")))


def test_folder_of_images_that_is_no_split_is_refused(tmp_path):
    layout(tmp_path, "train", "test")
    (tmp_path / "docs").mkdir()
    assert ImageFolder.at(str(tmp_path)).splits == ("train", "test")
    add(tmp_path / "more" / "cat")
    with pytest.raises(UserError, match=r"more has images but belongs to no split, beside test, train"):
        ImageFolder.at(str(tmp_path))


def test_class_may_be_named_like_a_split(tmp_path):
    for name in ("bus", "train"):
        add(tmp_path / name)
    assert ImageFolder.at(str(tmp_path)).classes == ("bus", "train")


@pytest.mark.parametrize("left", [".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir", "__pycache__"])
def test_leftover_folders_of_notebooks_and_archives_are_not_classes(left, tmp_path):
    layout(tmp_path, "train", "test")
    add(tmp_path / "train" / left)
    add(tmp_path / "train" / "cat" / left)
    (tmp_path / "train" / "cat" / "._0.png").write_bytes(b"x")
    add(tmp_path / left)
    source = ImageFolder.at(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.count("train") == 6


def test_files_that_are_not_images_are_counted_and_all_endings_are_read(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        picture(1).save(tmp_path / "d" / name / "0.JPG", "JPEG")
        picture(2).convert("L").save(tmp_path / "d" / name / "1.pgm")
        picture(3).save(tmp_path / "d" / name / "2.jfif", "JPEG")
        picture(4).save(tmp_path / "d" / name / "3.avif")
        (tmp_path / "d" / name / "notes.txt").write_text("x")
    (tmp_path / "d" / "cat" / "README").write_text("x")
    add(tmp_path / "d", 2)
    store = made(ImageFolder.at(str(tmp_path / "d")), tmp_path)
    assert sizes(store) == {"test": 8}
    left = {"other file (.txt)": 2, "other file (no ending)": 1, "outside the class folders": 2}
    assert store.meta.source["left_out"]["test"] == left


def test_linked_folders_are_entered_once(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        add(tmp_path / "pool" / name, start=10 * number)
        (tmp_path / "ds" / name).mkdir(parents=True)
        (tmp_path / "ds" / name / "linked").symlink_to(f"../../pool/{name}")
        (tmp_path / "ds" / name / "loop").symlink_to("..")
    (tmp_path / "ds" / "cat" / "loop").unlink()
    (tmp_path / "ds" / "dog" / "loop").unlink()
    (tmp_path / "pool" / "dog" / "self").symlink_to(".")
    add(tmp_path / "ds" / "dog", 1, 90)
    source = ImageFolder.at(str(tmp_path / "ds"))
    assert [sum(sample.label == label for sample in source.samples("test")) for label in (0, 1)] == [3, 4]
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("cat", "dog"):
        (linked / name).symlink_to(tmp_path / "pool" / name)
    assert ImageFolder.at(str(linked)).count("test") == 6


def test_class_folders_in_latin_1_are_classes(tmp_path):
    for name in (b"caf\xe9", b"dog"):
        add(tmp_path / "d" / "new")
        os.rename(tmp_path / "d" / "new", os.fsencode(tmp_path / "d") + b"/" + name)  # noqa: PTH104
    store = made(ImageFolder.at(str(tmp_path / "d")), tmp_path)
    assert store.meta.classes == ("caf\u00e9", "dog")
    assert store.split("test").captions(0) == ["a photo of a caf\u00e9"]
    assert store.split("test").ids[0] == "caf\u00e9/0.png"


def test_unreadable_folder_is_refused_in_one_line(tmp_path, monkeypatch):
    scandir = os.scandir

    def refused(path):
        if Path(path).name != "cat":  # Python 3.13 looks into the folders above it in this way, too
            return scandir(path)
        raise PermissionError(13, "Permission denied", str(path))

    layout(tmp_path, "train")
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"cat cannot be read: Permission denied"):
        ImageFolder.at(str(tmp_path))


# COCO


def coco(folder, images, annotations, encoding="utf-8", **options):
    add(folder / "i", 4)
    (folder / "a.json").write_text(json.dumps({"images": images, "annotations": annotations}), encoding=encoding)
    return Coco({"train": folder / "a.json"}, {"train": folder / "i"}, **options)


def listed(image_id=lambda number: number, caption_id=lambda number: number):
    images = [{"id": image_id(number), "file_name": f"{number}.png"} for number in range(4)]
    return images, [{"image_id": caption_id(number), "caption": f"words {number}"} for number in range(4)]


@pytest.mark.parametrize(
    ("image_id", "caption_id"),
    [(int, str), (str, int), (float, int), (float, str), ("x{}".format, "x{}".format), ("{:03d}".format,) * 2],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_ids_of_different_types_are_matched(image_id, caption_id, encoding, tmp_path):
    store = made(coco(tmp_path, *listed(image_id, caption_id), encoding), tmp_path, val_fraction=0)
    assert [store.split("train").captions(row) for row in range(4)] == [[f"words {row}"] for row in range(4)]


def test_image_listed_twice_is_used_once_and_counted(tmp_path):
    images, annotations = listed()
    images += [images[0], {"id": 9, "file_name": "1.png"}]
    annotations += [{"image_id": 9, "caption": "more words"}, {"image_id": 8, "caption": "of nothing"}]
    annotations += [{"image_id": 2, "caption": None}]
    store = made(coco(tmp_path, images, annotations), tmp_path, val_fraction=0)
    assert store.split("train").captions(1) == ["words 1", "more words"]
    assert store.meta.source["left_out"] == {"train": {"listed again": 2}}
    assert store.meta.source["without_image"] == 1


@pytest.mark.parametrize("name", ["{out}/50.png", "../i2/50.png"])
def test_image_outside_the_folder_is_refused_unless_asked(name, tmp_path):
    images, annotations = listed()
    add(tmp_path / "i2", 1, 50)
    images[3]["file_name"] = name.format(out=tmp_path / "i2")
    source = coco(tmp_path, images, annotations)
    with pytest.raises(UserError, match=r"1 of 4 train .* 1 outside the folder: .*reads it with --allow-outside"):
        made(source, tmp_path)
    assert sizes(made(coco(tmp_path, images, annotations, outside=True), tmp_path, val_fraction=0)) == {"train": 4}


def test_tables_and_pairs_stay_inside_their_folder(tmp_path):
    add(tmp_path / "i", 2)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "c.csv").write_text(f"filepath,title\n../i/0.png,a\n{tmp_path}/i/1.png,b\n")
    words = ["data", "build", "csv", str(tmp_path / "t" / "c.csv"), "--size", "16", "--val-fraction", "0"]
    refused = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "a")])
    assert "2 of 2 train images" in str(refused.exception)
    assert "2 outside the folder: ../i/0.png (not in" in str(refused.exception)
    allowed = CliRunner().invoke(cli, [*words, "--allow-outside", "--out", str(tmp_path / "b")])
    assert allowed.stdout.splitlines()[1].split()[:2] == ["train", "2"], allowed.output
    (tmp_path / "t" / "pairs.csv").write_text("image1,image2,caption1,caption2\n../i/0.png,../i/1.png,a,b\n")
    with pytest.raises(UserError, match=r"2 outside the folder: ../i/0.png \(not in [^;]*\)"):
        made(Mmvp.at(str(tmp_path / "t")), tmp_path)


def test_split_is_recognized_in_any_name_of_a_captions_file(tmp_path):
    for name, start in (("train2017", 0), ("validation", 10)):
        add(tmp_path / name, 2, start)
        images = [{"id": number, "file_name": f"{number}.png"} for number in range(start, start + 2)]
        annotations = [{"image_id": number, "caption": "x"} for number in range(start, start + 2)]
        (tmp_path / "annotations").mkdir(exist_ok=True)
        text = json.dumps({"images": images, "annotations": annotations})
        (tmp_path / "annotations" / f"captions_{name}.json").write_text(text)
    assert sizes(made(Coco.at(str(tmp_path)), tmp_path)) == {"train": 2, "val": 2}
    words = ["data", "build", "coco", "--out", str(tmp_path / "again"), "--size", "16"]
    for split, name in (("train", "train2017"), ("Validation", "validation")):
        words += ["--annotations", f"{split}={tmp_path}/annotations/captions_{name}.json"]
        words += ["--images", f"{split}={tmp_path / name}"]
    ran = CliRunner().invoke(cli, words)
    assert [line.split()[0] for line in ran.stdout.splitlines()[1:3]] == ["train", "val"], ran.output
    twice = CliRunner().invoke(cli, [*words, *words[-4:-2]])
    assert str(twice.exception) == "--annotations is given twice for val"
    shutil.rmtree(tmp_path / "again")

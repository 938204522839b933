import json

import numpy as np
import pytest
from click.testing import CliRunner
from coco_files import CocoFiles, build_coco, picture

from gaptune.cli import cli
from gaptune.data import StoreWriter
from gaptune.data.info import describe, splits_table
from gaptune.data.open import open_store
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError


@pytest.fixture
def files(tmp_path):
    return CocoFiles(tmp_path)


def test_description_of_a_coco_store_includes_left_out_images(files):
    files.add("train", "gone.jpg", None, ["x"])
    files.add("train", "long.jpg", picture(11), ["a very long caption of many words that cannot be kept in full"])
    files.add("train", "silent.jpg", picture(1), [])
    store = build_coco(**files.arguments())
    told = dict(describe(store))
    assert told["name"] == "store"
    assert told["folder"] == str(store.path)
    assert told["image size"] == "16 x 16 pixels"
    assert told["context length"] == "12 tokens"
    # start + "train picture 0" + end are 5, "another caption" 4, the long one fills the context
    assert told["train captions"] == "1.86 per image, tokens: mean 5.1, max 12"
    assert told["val captions"].startswith("2.00 per image")
    assert splits_table(store) == [
        ("split", "images", "captions", "labeled", "merged", "left out"),
        ("train", "7", "13", "0", "0", "1 no caption, 1 missing"),
        ("val", "3", "6", "0", "0", "-"),
    ]
    assert told["truncated"] == "1 captions (5.26%) longer than 12 tokens"
    assert told["train left out"] == f"1 missing: gone.jpg (not in {files.folder / 'train'})"
    assert told["no image"] == "0 captions"
    assert told["vocabulary"] == f"{len(store.meta.vocabulary):,} tokens"
    assert told["classes"] == "none"
    assert told["hash"] == store.meta.content_hash
    assert told["made by"].startswith(f"coco from train={files.folder / 'train.json'}, val=")


def test_store_is_described_as_json(files):
    files.add("train", "silent.jpg", picture(1), [])
    store = build_coco(**files.arguments())
    said = json.loads(CliRunner().invoke(cli, ["data", "info", str(store.path), "--json"]).output)
    assert said["splits"]["train"]["images"] == store.meta.splits["train"].images
    assert said["content_hash"] == store.meta.content_hash


def test_only_a_few_of_many_skipped_images_are_named(files):
    for index in range(8):
        files.add("train", f"gone{index}.jpg", None, ["x"])
    told = dict(describe(build_coco(**files.arguments(max_broken=0.9))))
    assert told["train left out"].startswith("8 missing: gone0.jpg (not in ")
    assert told["train left out"].count("gone") == 3
    assert told["train left out"].endswith(", …")


def test_scenes_are_described():
    store = open_store("scenes")
    told = dict(describe(store))
    assert told["train captions"].startswith("5.00 per image")
    assert splits_table(store)[1] == ("train", "5,000", "25,000", "0", "-", "-")
    assert [row[0] for row in splits_table(store)[2:]] == ["val", "probe_train", "probe_test"]
    store.verify()
    assert told["classes"].startswith("circle, square, ")
    assert told["made by"] == "scenes"
    assert not {"truncated", "train left out"} & set(told)
    on_disk = sum(file.stat().st_size for file in store.path.iterdir())
    assert told["on disk"] == f"{on_disk / 1e6:.1f} MB"


def test_store_of_any_builder_is_described(tmp_path):
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    with StoreWriter(tmp_path / "store", 4, 8) as writer:
        for split in ("train", "val"):
            writer.add(split, image, ["a dog"], tokenize(["a dog"], 8), id="x")
        store = writer.finish(name="mine", source={})
    assert dict(describe(store))["made by"] == "unknown"


def test_damaged_store_is_refused_in_one_line(files):
    store = build_coco(**files.arguments())
    path = store.path / "val.arrow"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(UserError, match="corrupt store: "):
        describe(store)

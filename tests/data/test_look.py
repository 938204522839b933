"""``gaptune data look``: a page of pairs as they are stored."""

import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from gaptune.cli import cli
from gaptune.data import FeatureMeta, StoreWriter
from gaptune.data.look import html, random_pairs, sheet
from gaptune.data.tokens import tokenize

BAD = "<script>alert(1)</script> & \u4e2d\u6587"
SIDE = 8


@pytest.fixture
def store(tmp_path):
    with StoreWriter(tmp_path / "store", SIDE, 8) as writer:
        for row in range(40):
            texts = [f"picture {row}", BAD, *(f"more {n}" for n in range(6))]
            image = np.full((SIDE, SIDE, 3), row, dtype=np.uint8)
            label = row % 2 if row else None
            writer.add("train", image, texts, tokenize(texts, 8), id=f"id<{row}>", label=label)
        return writer.finish(name="a <b>", source={}, classes=["cat", "dog"])


def look(*words):
    ran = CliRunner().invoke(cli, ["data", "look", *map(str, words)])
    return ran.exception or ran.output


def test_pairs_are_drawn_by_the_seed_each_once_with_their_own_captions(store):
    pairs = random_pairs(store, "train", count=12, seed=3)
    rows = [int(re.findall(r"\d+", pair.id)[0]) for pair in pairs]
    assert len(set(rows)) == 12
    assert rows == [int(re.findall(r"\d+", pair.id)[0]) for pair in random_pairs(store, "train", count=12, seed=3)]
    assert rows != [int(re.findall(r"\d+", pair.id)[0]) for pair in random_pairs(store, "train", count=12, seed=4)]
    for row, pair in zip(rows, pairs, strict=True):
        assert (pair.pixels == row).all()
        assert pair.captions[:2] == (f"picture {row}", BAD)
        assert pair.more == 3
        assert pair.label == (["cat", "dog"][row % 2] if row else "")
    assert len(random_pairs(store, "train", count=100, seed=0)) == 40


def test_html_page_is_complete_and_escaped(store, tmp_path):
    out = tmp_path / "page.html"
    assert look(store.path, "--count", 7, "--out", out) == f"{out}\n"
    page = out.read_text(encoding="utf-8")
    assert page.count("<img ") == page.count("data:image/png;base64,") == 7
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; \u4e2d\u6587" in page
    assert "<h1>a &lt;b&gt;: 7 of 40 train images</h1>" in page
    assert "http" not in page


@pytest.mark.whole
def test_sheet_shows_the_images_as_they_are(store, tmp_path):
    out = tmp_path / "page.png"
    look(store.path, "--count", 40, "--out", out)
    with Image.open(out) as opened:
        pixels = np.asarray(opened)
    shown = {tuple(color) for color in np.unique(pixels.reshape(-1, 3), axis=0)}
    assert {(row, row, row) for row in range(40)} <= shown
    wide = sheet("x" * 500, random_pairs(store, "train", count=1, seed=0))
    assert wide.width < 300, "a long title does not make the page wide"


def test_store_of_features_has_texts_and_no_images(tmp_path):
    with StoreWriter(tmp_path / "store", features=FeatureMeta(image=4, text=4)) as writer:
        for row in range(3):
            writer.add("val", np.zeros(4), [f"text {row}"], np.zeros((1, 4)), id=str(row))
        store = writer.finish(name="features", source={})
    pairs = random_pairs(store, "val", count=2, seed=0)
    assert [pair.pixels for pair in pairs] == [None, None]
    assert "<img" not in html("x", pairs)
    for ending in ("html", "png"):
        look(store.path, "--out", tmp_path / f"page.{ending}")
        assert (tmp_path / f"page.{ending}").exists()
    assert "a store of features has no images" in (tmp_path / "page.html").read_text()


def test_invalid_options_are_refused_in_one_line(store, tmp_path):
    assert "has no split 'trian' (did you mean 'train'?)" in str(look(store.path, "--split", "trian"))
    assert "expected a name that ends with .html or .png" in str(look(store.path, "--out", tmp_path / "x.pdf"))
    assert "no folder" in str(look(store.path, "--out", tmp_path / "no" / "x.png"))

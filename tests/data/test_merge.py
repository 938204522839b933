"""Images that come again: their captions are merged, whatever form and order they come in."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coco_files import picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import encoded
from shard_files import tar

from gaptune.data.build import build
from gaptune.data.sources import SOURCES, Coco, Columns, WebDataset
from gaptune.data.sources.base import Sample, Source

IMAGES = [encoded(picture(number), "PNG") for number in range(6)]


class Given(Source):
    """Samples from a list, for each split."""

    kind = "given"

    def __init__(self, classes=(), **splits):
        self.rows = splits
        self.splits = tuple(splits)
        self.classes = classes

    @classmethod
    def at(cls, place):
        return cls()

    def samples(self, split):
        for index, (image, captions, *label) in enumerate(self.rows[split]):
            yield Sample(f"{split}-{index}", IMAGES[image] if isinstance(image, int) else image, captions, *label)

    def count(self, split):
        return len(self.rows[split])

    def files(self):
        return []

    def origin(self):
        return {}


def made(source, folder, **options):
    return build(source, out=folder / "store", image_size=16, context_length=12, **({"val_fraction": 0} | options))


def captions(store, name="train"):
    split = store.split(name)
    return [split.captions(row) for row in range(len(split))]


def test_row_per_caption_becomes_an_image_with_all_of_them(tmp_path):
    rows = [(image, (f"caption {number} of {image}",)) for image in range(6) for number in range(5)]
    store = made(Given(train=rows), tmp_path)
    assert captions(store) == [[f"caption {number} of {image}" for number in range(5)] for image in range(6)]
    assert store.split("train").ids == [f"train-{5 * image}" for image in range(6)]
    assert store.meta.source["merged"] == {"train": 24}
    store.verify()


def test_captions_are_distinct_and_keep_their_order(tmp_path):
    store = made(Given(train=[(0, ("b", "a", "b")), (1, ("c",)), (0, ("a", "d")), (0, ("e", "d"))]), tmp_path)
    assert captions(store) == [["b", "a", "d", "e"], ["c"]]


def test_image_of_val_is_left_out_of_train_and_captions_stay_in_their_split(tmp_path):
    source = Given(train=[(0, ("a",)), (1, ("b",)), (1, ("c",))], val=[(0, ("d",)), (0, ("e",))], test=[(1, ("f",))])
    store = made(source, tmp_path)
    assert [captions(store, name) for name in ("train", "val", "test")] == [[["b", "c"]], [["d", "e"]], [["f"]]]
    assert store.meta.source["left_out"] == {"val": {}, "train": {"in val": 1}, "test": {}}


def test_first_label_is_kept_and_others_are_counted(tmp_path):
    rows = [(0, ("a",)), (0, ("b",), 1), (0, ("c",), 0), (1, ("d",), 0), (1, ("e",), 0)]
    store = made(Given(classes=("cat", "dog"), train=rows), tmp_path)
    assert store.split("train").labels.tolist() == [1, 0]
    assert store.meta.source["other_label"] == {"train": 1}


def test_repeated_broken_image_is_counted_each_time(tmp_path):
    rows = [(0, ("a",)), (b"broken", ("b",)), (b"broken", ("c",)), (b"broken", ("d",))]
    store = made(Given(train=rows), tmp_path, max_broken=0.8)
    assert store.meta.source["left_out"] == {"train": {"not an image": 3}}
    assert captions(store) == [["a"]]


def test_repeated_long_caption_is_counted_once(tmp_path):
    long = "word " * 30
    store = made(Given(train=[(0, (long,)), (0, (long, "x" + long)), (1, (long,))]), tmp_path)
    assert store.meta.source["truncated"] == 3


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abcdefgh")), min_size=1, max_size=40),
    fraction=st.sampled_from([0, 0.4]),
)
def test_any_order_of_rows_gives_each_image_its_captions(rows, fraction, tmp_path_factory):
    expected = {}
    for image, caption in rows:
        expected.setdefault(image, {})[caption] = None
    folder = tmp_path_factory.mktemp("rows")
    store = made(Given(train=[(image, (caption,)) for image, caption in rows]), folder, val_fraction=fraction)
    found = [each for name in store.meta.splits for each in captions(store, name)]
    assert sorted(found) == sorted(list(each) for each in expected.values())
    whole = made(
        Given(train=[(image, tuple(each)) for image, each in expected.items()]), folder / "a", val_fraction=fraction
    )
    for name in store.meta.splits:
        assert captions(whole, name) == captions(store, name)


@pytest.mark.whole
def test_rows_far_apart_are_merged_as_neighbors_are(tmp_path):
    """Images are written after 1,024; the captions of earlier ones come later."""
    noise = np.random.default_rng(0).integers(0, 256, (1500, 16, 16, 3), dtype=np.uint8)
    first = [(image, (f"first {number}",)) for number, image in enumerate(noise)]
    second = [(noise[number], (f"second {number}", f"first {number}")) for number in range(0, 1500, 7)]
    store = made(Given(train=first + second), tmp_path)
    together = [
        (image, (f"first {number}", f"second {number}") if number % 7 == 0 else (f"first {number}",))
        for number, image in enumerate(noise)
    ]
    whole = made(Given(train=together), tmp_path / "whole")
    assert captions(store) == captions(whole)
    assert np.array_equal(store.split("train").gather(np.arange(1500)), noise)
    assert np.array_equal(store.split("train").texts, whole.split("train").texts)
    store.verify()


@pytest.mark.parametrize("form", ["rows", "lists", "shards", "coco"])
def test_all_forms_of_the_same_pairs_give_the_same_store(form, tmp_path):
    texts = [[f"{word} {number}" for word in ("one", "two", "one")[: 1 + number % 3]] for number in range(6)]
    (tmp_path / "i").mkdir()
    for number, content in enumerate(IMAGES):
        (tmp_path / "i" / f"{number}.png").write_bytes(content)
    match form:
        case "rows":
            rows = [(f"i/{number}.png", text) for number, each in enumerate(texts) for text in each]
            table = dict(zip(("filepath", "title"), zip(*rows, strict=True), strict=True))
            pq.write_table(pa.table({name: list(column) for name, column in table.items()}), tmp_path / "t.parquet")
            source = SOURCES["parquet"].of([str(tmp_path / "t.parquet")], Columns())
        case "lists":
            rows = [json.dumps({"filepath": f"i/{number}.png", "title": each}) for number, each in enumerate(texts)]
            (tmp_path / "t.jsonl").write_text("\n".join(rows))
            source = SOURCES["jsonl"].of([str(tmp_path / "t.jsonl")], Columns())
        case "shards":
            members = []
            for number, each in enumerate(texts):
                members += [(f"i/{number}.png", IMAGES[number]), (f"i/{number}.txt", "\n".join(each).encode())]
            (tmp_path / "t.tar").write_bytes(tar(members))
            source = WebDataset.at(str(tmp_path / "t.tar"))
        case "coco":
            images = [{"id": number, "file_name": f"i/{number}.png"} for number in range(6)]
            annotations = [{"image_id": number, "caption": text} for number, each in enumerate(texts) for text in each]
            (tmp_path / "t.json").write_text(json.dumps({"images": images, "annotations": annotations}))
            source = Coco({"train": tmp_path / "t.json"}, {"train": tmp_path})
    store = made(source, tmp_path)
    assert captions(store) == [list(dict.fromkeys(each)) for each in texts]
    same = made(Given(train=list(zip(range(6), map(tuple, texts), strict=True))), tmp_path / "same")
    for name in ("captions", "texts", "offsets"):
        one, other = (getattr(each.split("train"), name) for each in (store, same))
        assert name == "captions" or np.array_equal(one, other)
    assert np.array_equal(store.split("train").gather(np.arange(6)), same.split("train").gather(np.arange(6)))

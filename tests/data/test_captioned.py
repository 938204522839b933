"""WebDataset shards, CSV and Parquet files, and pairs; and what is lost on the way into a store."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captioned_files import encoded, plain_pairs, samples, write_csv, write_images, write_shard

from gaptune.data.build import build
from gaptune.data.info import describe, splits_table
from gaptune.data.open import open_store
from gaptune.data.sources import SOURCES, Columns, WebDataset, find_source
from gaptune.errors import UserError


def made(source, tmp_path, **changes):
    options = {"out": tmp_path / "store", "image_size": 16, "context_length": 12, "max_broken": 0.5} | changes
    return build(source, **options)


def ids(store, split="train"):
    return store.split(split).ids


# Where they come from


def test_shards_are_read_in_order_with_one_caption_per_line(tmp_path):
    for shard in range(3):
        write_shard(tmp_path / f"{shard:05d}.tar", samples(range(shard * 4, shard * 4 + 4)))
    store = made(WebDataset.at(f"{tmp_path}/{{00000..00002}}.tar"), tmp_path, val_fraction=0)
    assert ids(store) == [f"{n:05d}" for n in range(12)]
    assert store.split("train").captions(5) == ["picture 5", "another caption"]
    assert store.split("train").labels is None
    assert ids(made(WebDataset.at(f"{tmp_path}/*.tar"), tmp_path, out=tmp_path / "b", val_fraction=0)) == ids(store)


def test_captions_may_be_in_json_and_images_in_several_formats(tmp_path):
    write_shard(
        tmp_path / "a.tar",
        [
            {"__key__": "one", "jpg": encoded(1, "JPEG"), "json": json.dumps({"caption": "in json"})},
            {"__key__": "two", "webp": encoded(2, "WEBP"), "json": json.dumps({"captions": ["a", "b"]})},
            {
                "__key__": "three",
                "jpeg": encoded(3, "JPEG"),
                "txt": "text",
                "json": json.dumps({"caption": "not this"}),
            },
            {"__key__": "x/four", "seg.png": b"mask", "png": encoded(4), "txt": "in a folder"},
        ],
    )
    train = made(WebDataset.at(str(tmp_path / "a.tar")), tmp_path, val_fraction=0).split("train")
    assert [train.captions(row) for row in range(4)] == [["in json"], ["a", "b"], ["text"], ["in a folder"]]
    assert train.ids[3] == "x/four"


def test_clip_benchmarks_layout_gives_splits_labels_and_prompts(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "wds"
    for split, numbers in (("train", range(6)), ("test", range(6, 10))):
        rows = [{"__key__": f"s{n}", "png": encoded(n), "cls": str(n % 2)} for n in numbers]
        write_shard(root / split / "0.tar", rows)
    (root / "classnames.txt").write_text("cat\ndog\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    store = open_store(f"webdataset:{root}", image_size=16, context_length=12)
    assert {name: split.images for name, split in store.meta.splits.items()} == {"train": 6, "test": 4}
    assert store.meta.classes == ("cat", "dog")
    assert store.meta.prompts == ("a photo of a {}.",)
    assert store.split("test").labels.tolist() == [0, 1, 0, 1]
    assert store.split("test").captions(1) == ["a photo of a dog"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), "there is no file .*a.tar"),
        (lambda file: file.write_bytes(b"no tar" * 500), "a.tar: cannot be read as a tar file"),
        (lambda file: file.write_bytes(file.read_bytes()[:700]), "a.tar: cannot be read as a tar file"),
        (lambda file: write_shard(file, [{"__key__": "x", "png": b"", "cls": "1"}]), "there is no classnames.txt"),
        (lambda file: write_shard(file, [{"__key__": "x", "png": b"", "json": "{"}]), "x.json is not JSON"),
    ],
)
def test_invalid_shard_is_refused_in_one_line_and_leaves_no_files(spoil, message, tmp_path):
    file = write_shard(tmp_path / "a.tar", samples(range(3)))
    spoil(file)
    with pytest.raises(UserError, match=message) as caught:
        made(WebDataset.at(str(file)), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("store*"))


def test_label_beyond_the_classes_is_named(tmp_path):
    write_shard(tmp_path / "a.tar", [{"__key__": "x", "png": encoded(1), "cls": "2"}])
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    with pytest.raises(UserError, match=r"x\.cls: label 2 is not an index into the 2 classes"):
        made(WebDataset.at(str(tmp_path / "a.tar")), tmp_path)


@pytest.mark.parametrize("separator", [",", "\t"])
def test_csv_file_is_read_with_open_clips_columns_and_either_separator(separator, tmp_path):
    write_images(tmp_path / "images", range(3))
    rows = [["filepath", "title"], *([f"images/{n}.png", f'picture, "{n}"\nof a dog'] for n in range(3))]
    write_csv(tmp_path / "table.csv", rows, separator)
    store = made(find_source(f"csv:{tmp_path / 'table.csv'}"), tmp_path, val_fraction=0)
    assert ids(store) == [f"images/{n}.png" for n in range(3)]
    assert store.split("train").captions(2) == ['picture, "2"\nof a dog']


def test_columns_can_be_named_in_a_reference(tmp_path):
    write_images(tmp_path, range(4))
    header = ["name", "one", "two", "part", "kind", "key"]
    rows = [
        [f"{n}.png", f"one {n}", f"two {n}" if n else "", "validation" if n == 3 else "train", "ab"[n % 2], f"k{n}"]
        for n in range(4)
    ]
    write_csv(tmp_path / "t.csv", [header, *rows])
    store = made(
        find_source(f"csv:{tmp_path}/t.csv?image=name&caption=one&caption=two&split=part&label=kind&id=key"), tmp_path
    )
    assert ids(store) == ["k0", "k1", "k2"]
    assert ids(store, "val") == ["k3"]
    assert store.split("train").captions(0) == ["one 0"]
    assert store.split("train").captions(1) == ["one 1", "two 1"]
    assert store.meta.classes == ("a", "b")
    assert store.split("train").labels.tolist() == [0, 1, 0]


def test_parquet_file_may_have_paths_bytes_or_both_like_hugging_faces(tmp_path):
    write_images(tmp_path, range(3))
    columns = {
        "path": [f"{n}.png" for n in range(3)],
        "bytes": [encoded(n) for n in range(3)],
        "both": [{"bytes": encoded(n), "path": f"{n}.png"} for n in range(3)],
        "title": [[f"one {n}", f"two {n}"] for n in range(3)],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    stores = [
        made(SOURCES["parquet"].of([str(tmp_path)], Columns(image=name)), tmp_path, out=tmp_path / name, val_fraction=0)
        for name in ("path", "bytes", "both")
    ]
    assert ids(stores[0]) == ids(stores[2]) == [f"{n}.png" for n in range(3)]
    assert ids(stores[1]) == [f"train-{n:08d}" for n in range(3)]
    first = stores[0].split("train")
    for store in stores[1:]:
        assert np.array_equal(store.split("train").gather(np.arange(3)), first.gather(np.arange(3)))
    assert first.captions(1) == ["one 1", "two 1"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("csv:{}/t.csv?image=filepaht", r"there is no column 'filepaht' \(did you mean 'filepath'\?\)"),
        ("csv:{}/t.csv?capshun=title", r"there is no column for 'capshun' \(did you mean 'caption'\?\)"),
        ("csv:{}/gone.csv", "there is no file .*gone.csv"),
        ("csv:{}/empty", "there are no .csv files in .*empty"),
        ("csv:{}/ragged.csv", "ragged.csv: .*Expected 2 columns, got 3"),
        ("parquet:{}/t.csv", "t.csv: cannot be read as parquet"),
    ],
)
def test_invalid_table_is_refused_in_one_line(reference, message, tmp_path):
    write_csv(tmp_path / "t.csv", [["filepath", "title"], ["0.png", "x"]])
    write_csv(tmp_path / "ragged.csv", [["filepath", "title"], ["0.png", "x"], ["1.png", "x", "y"]])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message) as caught:
        made(find_source(reference.format(tmp_path)), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("store*"))


def test_mmvps_own_layout_gives_pairs_in_neighboring_rows(tmp_path):
    images = tmp_path / "MLLM_VLM Images"
    write_images(images / "Texts", [])
    for number in range(1, 5):
        folder = images / ("Color" if number > 2 else "Texts")
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(encoded(number, "JPEG"))
    kinds = ["Texts", "Texts", "Color", "Color"]
    rows = [[n + 1, kind, f"thing {n + 1}"] for n, kind in enumerate(kinds)]
    write_csv(tmp_path / "Questions.csv", [["Question ID", "Type", "Statement"], *rows])
    store = made(find_source(f"mmvp:{tmp_path}"), tmp_path)
    pairs = store.split("pairs")
    assert [pairs.captions(row) for row in range(4)] == [[f"a photo of thing {n}"] for n in range(1, 5)]
    assert store.meta.classes == ("Color", "Texts")
    assert pairs.labels.tolist() == [1, 1, 0, 0]


def test_plain_pairs_may_have_images_in_common_and_need_no_category(tmp_path):
    store = made(find_source(f"mmvp:{plain_pairs(tmp_path)}"), tmp_path)
    assert ids(store, "pairs") == ["0.png", "1.png", "2.png", "0.png"]
    assert store.split("pairs").labels is None


def test_broken_image_in_a_pair_is_refused_whatever_fraction_is_allowed(tmp_path):
    (plain_pairs(tmp_path) / "1.png").unlink()
    with pytest.raises(UserError, match="1 of 4 pairs images are missing or broken"):
        made(find_source(f"mmvp:{tmp_path}"), tmp_path, max_broken=0.9)


PLAIN = ["image1", "image2", "caption1", "caption2"]
MMVP = ["Question ID", "Type", "Statement"]


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("pairs.csv", [["image1", "image2", "caption1"]], "pairs.csv:1: there is no column 'caption2'"),
        ("pairs.csv", [PLAIN], "has no pairs"),
        (
            "pairs.csv",
            [PLAIN, ["a", "b", "", "c"]],
            "csv:2: 'caption1' is empty",
        ),
        ("Questions.csv", [MMVP, [1, "A", "x"]], "the last row has no partner"),
        (
            "Questions.csv",
            [MMVP, [1, "A", "x"], [2, "B", "x"]],
            "a pair of 'A' and 'B'",
        ),
        ("other.csv", [], "has no pairs .expected Questions.csv"),
    ],
)
def test_invalid_pairs_are_refused_in_one_line(name, rows, message, tmp_path):
    write_csv(tmp_path / name, rows)
    with pytest.raises(UserError, match=message):
        find_source(f"mmvp:{tmp_path}")


def test_coco_folder_is_found_by_its_layout(tmp_path):
    for name, numbers in (("train2017", range(3)), ("val2017", range(3, 5))):
        write_images(tmp_path / name, numbers)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        content = {
            "images": [{"id": n, "file_name": f"{n}.png"} for n in numbers],
            "annotations": [{"image_id": n, "caption": f"picture {n}"} for n in numbers],
        }
        (tmp_path / "annotations" / f"captions_{name}.json").write_text(json.dumps(content))
    store = made(find_source(f"coco:{tmp_path}"), tmp_path)
    assert (ids(store), ids(store, "val")) == (["0.png", "1.png", "2.png"], ["3.png", "4.png"])


# What becomes of them


def test_validation_images_are_chosen_by_hash_and_stay_when_images_are_added(tmp_path):
    write_shard(tmp_path / "a.tar", samples(range(200)))
    write_shard(tmp_path / "b.tar", samples(range(200, 300)))
    some = made(WebDataset.at(str(tmp_path / "a.tar")), tmp_path, val_fraction=0.2)
    more = made(WebDataset.at(f"{tmp_path}/*.tar"), tmp_path, out=tmp_path / "more", val_fraction=0.2)
    assert 20 <= len(ids(some, "val")) <= 60
    assert set(ids(some, "val")) <= set(ids(more, "val"))
    assert set(ids(some)) <= set(ids(more))
    wider = made(WebDataset.at(str(tmp_path / "a.tar")), tmp_path, out=tmp_path / "wider", val_fraction=0.4)
    assert set(ids(some, "val")) < set(ids(wider, "val"))


def test_five_percent_of_train_become_val_unless_val_exists(tmp_path):
    write_shard(tmp_path / "a.tar", samples(range(200)))
    store = made(WebDataset.at(str(tmp_path / "a.tar")), tmp_path)
    assert 2 <= len(ids(store, "val")) <= 25
    store.check_trainable()
    write_shard(tmp_path / "b.tar", samples(range(200, 204)))
    places = [f"train={tmp_path / 'a.tar'}", f"val={tmp_path / 'b.tar'}"]
    given = made(WebDataset.at(*places), tmp_path, out=tmp_path / "given")
    assert ids(given, "val") == [f"{n:05d}" for n in range(200, 204)]
    with pytest.raises(UserError, match="there is a split val already"):
        made(WebDataset.at(*places), tmp_path, out=tmp_path / "both", val_fraction=0.1)


def test_repeated_images_are_merged_or_left_out_and_counted(tmp_path):
    train = samples([0, 1, 2, 3, 4])
    train += [row | {"__key__": f"again{n}"} for n, row in enumerate(samples([1, 1, 2]))]  # within train
    train += [row | {"__key__": "of val"} for row in samples([10])]
    val = samples([10, 11]) + [row | {"__key__": "twice"} for row in samples([11])]
    write_shard(tmp_path / "train.tar", train)
    write_shard(tmp_path / "val.tar", val)
    store = made(WebDataset.at(f"train={tmp_path / 'train.tar'}", f"val={tmp_path / 'val.tar'}"), tmp_path)
    assert ids(store) == [f"{n:05d}" for n in range(5)]
    assert ids(store, "val") == ["00010", "00011"]
    assert store.meta.source["merged"] == {"val": 1, "train": 3}
    assert store.meta.source["left_out"] == {"val": {}, "train": {"in val": 1}}
    assert splits_table(store) == [
        ("split", "images", "captions", "labeled", "merged", "left out"),
        ("train", "5", "10", "0", "3", "1 in val"),
        ("val", "2", "4", "0", "1", "-"),
    ]


def test_description_reports_the_fraction_of_captions_longer_than_the_context(tmp_path):
    rows = samples(range(4))
    rows[0]["txt"] = "a caption that is by far too long for a context of twelve tokens"
    write_shard(tmp_path / "a.tar", rows)
    store = made(WebDataset.at(str(tmp_path / "a.tar")), tmp_path, val_fraction=0)
    assert dict(describe(store))["truncated"] == "1 captions (14.29%) longer than 12 tokens"


def test_samples_without_an_image_or_a_caption_are_counted_separately(tmp_path):
    rows = [*samples(range(4)), {"__key__": "blind", "txt": "x"}, {"__key__": "mute", "png": encoded(9), "txt": " "}]
    write_shard(tmp_path / "a.tar", rows)
    source = made(WebDataset.at(str(tmp_path / "a.tar")), tmp_path, val_fraction=0).meta.source
    assert source["left_out"]["train"] == {"no image": 1, "no caption": 1}
    assert source["unread"]["train"] == {"no image": ["blind (its members: txt)"]}


def flickr8k_both_ways(flickr8k, folder, most):
    """The same samples as shards and as a Parquet file, and the stores that they become."""
    rows = []
    for split in ("train", "val"):
        content = json.loads((flickr8k / "annotations" / f"captions_{split}.json").read_text(encoding="utf-8"))
        captions = {}
        for each in content["annotations"]:
            captions.setdefault(each["image_id"], []).append(each["caption"].strip())
        for image in content["images"][:most]:
            name = image["file_name"]
            key = f"{split}-{name.partition('.')[0]}"
            rows.append((split, key, (flickr8k / split / name).read_bytes(), captions[image["id"]]))
    for split in ("train", "val"):
        mine = [row for row in rows if row[0] == split]
        for shard, start in enumerate(range(0, len(mine), 1000)):
            part = [
                {"__key__": key, "jpg": image, "txt": "\n".join(texts)}
                for _, key, image, texts in mine[start : start + 1000]
            ]
            write_shard(folder / "shards" / split / f"{shard:05d}.tar", part)
    split, key, image, captions = zip(*rows, strict=True)
    table = pa.table({"split": split, "key": key, "jpg": image, "captions": captions})
    pq.write_table(table, folder / "all.parquet", row_group_size=512)
    columns = Columns(image="jpg", captions=("captions",), id="key", split="split")
    options = {"image_size": 72, "context_length": 32, "max_broken": 0}
    return (
        build(WebDataset.at(str(folder / "shards")), out=folder / "a", **options),
        build(SOURCES["parquet"].of([str(folder / "all.parquet")], columns), out=folder / "b", **options),
    )


@pytest.mark.whole
def test_shards_and_a_parquet_file_of_the_same_photographs_give_bit_equal_stores(flickr8k, tmp_path):
    one, other = flickr8k_both_ways(flickr8k, tmp_path, most=150)
    assert one.meta.content_hash == other.meta.content_hash
    assert one.meta.vocabulary == other.meta.vocabulary
    for split in ("train", "val"):
        assert (one.path / f"{split}.arrow").read_bytes() == (other.path / f"{split}.arrow").read_bytes()
        assert 140 < len(one.split(split)) <= 150

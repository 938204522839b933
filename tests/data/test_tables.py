"""Tables: where images lie, which split a row has, what is checked when a table is opened, and what a reader says."""

import base64
import json
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_files import captions, labels, opened, png, read, write_csv, write_jsonl, write_parquet, write_pictures

from gaptune.data.open import open_store
from gaptune.data.sources import find_source
from gaptune.errors import UserError


def read_through(make):
    source = make()
    for split in source.splits:
        list(source.samples(split))


def refused(match, make):
    with pytest.raises(UserError, match=match) as caught:
        read_through(make)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


# Paths


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_path_is_relative_to_the_table_that_names_it(form, tmp_path):
    for split, start, count in (("a", 0, 4), ("b", 100, 2)):
        names = write_pictures(tmp_path / split, count, start)
        frame = pd.DataFrame({"filepath": names, "title": [f"{split} {name}" for name in names]})
        file = tmp_path / split / f"metadata.{form}"
        match form:
            case "csv":
                frame.to_csv(file, index=False)
            case "jsonl":
                frame.to_json(file, orient="records", lines=True)
            case "parquet":
                frame.to_parquet(file, index=False)
    found = read(opened(form, f"train={tmp_path}/a/metadata.{form}", f"val={tmp_path}/b/metadata.{form}"))
    assert [image for image, _, _ in found["train"]] == [png(seed) for seed in range(4)]
    assert [image for image, _, _ in found["val"]] == [png(seed) for seed in range(100, 102)]
    assert found["val"][0][1] == ("b 000.png",)


def test_linked_table_finds_its_images_beside_the_link(tmp_path):
    names = write_pictures(tmp_path / "snapshot/train", 2)
    write_csv(tmp_path / "blobs/f00", ["filepath", "title"], [[name, name] for name in names])
    (tmp_path / "snapshot/train/metadata.csv").symlink_to("../../blobs/f00")
    found = read(opened("csv", tmp_path / "snapshot"))
    assert [image for image, _, _ in found["train"]] == [png(0), png(1)]


def test_name_with_brackets_or_a_question_mark_is_no_pattern(tmp_path):
    for folder in ("data [v2]", "a{b}", "what?image=x"):
        names = write_pictures(tmp_path / folder, 3)
        write_csv(tmp_path / folder / "c.csv", ["filepath", "title"], [[name, name] for name in names])
        assert len(captions(find_source(f"csv:{tmp_path}/{folder}/c.csv"))) == 3


# Splits


def test_hub_files_in_one_folder_keep_their_splits(tmp_path):
    for split, count in (("train", 4), ("test", 3), ("validation", 2)):
        file = tmp_path / f"data/{split}-00000-of-00001.parquet"
        write_parquet(file, filepath=[png(n) for n in range(count)], title=[f"{split} {n}" for n in range(count)])
    source = opened("parquet", tmp_path / "data")
    assert {split: source.count(split) for split in source.splits} == {"test": 3, "train": 4, "val": 2}
    assert captions(source, "val")[0] == ("validation 0",)


SPLITS = ["train", "Training", "valid", "VAL", "dev", "test", "extra"]


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "dictionary"])
def test_names_in_a_column_are_canonical_and_those_of_one_split_are_merged(form, tmp_path):
    names = [f"{n}.png" for n in range(7)]
    table = pa.table({"filepath": names, "title": names, "split": SPLITS})
    file = tmp_path / f"c.{form}"
    match form:
        case "csv" | "tsv":
            rows = [list(row.values()) for row in table.to_pylist()]
            write_csv(file, table.column_names, rows, "\t" if form == "tsv" else ",")
        case "jsonl":
            write_jsonl(file, table.to_pylist())
        case _:
            table = table.set_column(2, "split", table["split"].dictionary_encode()) if form == "dictionary" else table
            pq.write_table(table, file, row_group_size=2)
    source = opened({"tsv": "csv", "dictionary": "parquet"}.get(form, form), file, split="split")
    found = {split: [each.id for each in source.samples(split)] for split in source.splits}
    assert found == {"train": names[:2], "val": names[2:5], "test": names[5:6], "extra": names[6:]}
    assert {split: source.count(split) for split in source.splits} == {"train": 2, "val": 3, "test": 1, "extra": 1}


@pytest.mark.parametrize("missing", [[3], [2, 5, 7], list(range(1, 8))])
def test_rows_without_a_split_are_named(missing, tmp_path):
    splits = ["train" if n not in missing else None for n in range(9)]
    file = write_parquet(tmp_path / "c.parquet", filepath=["x.png"] * 9, title=["x"] * 9, split=splits)
    said = refused("no split in the column 'split'", lambda: opened("parquet", file, split="split"))
    named = {1: "c.parquet: row 4 has", 3: "rows 3, 6, 8 have", 7: "rows 2, 3, 4, 5, 6 and 2 more have"}
    assert named[len(missing)] in said
    file = write_csv(tmp_path / "c.csv", ["filepath", "title", "split"], [["x", "y", s or " "] for s in splits])
    refused("lines? .* no split in the column 'split'", lambda: opened("csv", file, split="split"))


def test_row_must_agree_with_its_file_where_files_are_of_several_splits(tmp_path):
    header = ["filepath", "title", "split"]
    write_csv(tmp_path / "train.csv", header, [["0.png", "a", "train"]])
    write_csv(tmp_path / "test.csv", header, [["1.png", "b", "TEST"]])
    assert set(opened("csv", tmp_path, split="split").splits) == {"train", "test"}
    write_csv(tmp_path / "test.csv", header, [["1.png", "b", "test"], ["2.png", "b", "train"]])
    refused("test.csv: line 3: 'split' says 'train', the file 'test'", lambda: opened("csv", tmp_path, split="split"))
    refused("both SPLIT=FILE and the column", lambda: opened("csv", f"train={tmp_path / 'train.csv'}", split="split"))


def test_one_file_with_a_column_of_splits_may_have_any_name(tmp_path):
    rows = [["0.png", "a", "train"], ["1.png", "b", "val"]]
    for name in ("train_val.csv", "test.csv", "dev/all.csv"):
        file = write_csv(tmp_path / name, ["filepath", "title", "split"], rows)
        assert opened("csv", file, split="split").splits == ("train", "val")


@pytest.mark.parametrize("value", [0, 1.5, True])
def test_column_that_names_no_splits_is_refused_with_its_type(value, tmp_path):
    file = write_parquet(tmp_path / "c.parquet", filepath=["x"], title=["x"], split=[value])
    refused("the column 'split' has the type .*expected texts", lambda: opened("parquet", file, split="split"))
    file = write_csv(tmp_path / "c.csv", ["filepath", "title", "split"], [["x", "x", value]])
    if value is not True:
        refused("line 2: the column 'split': .* cannot name a split", lambda: opened("csv", file, split="split"))


# What a reader says


def test_every_file_is_checked_when_a_table_is_opened(tmp_path):
    write_parquet(tmp_path / "0.parquet", filepath=["0.png"], title=["a"])
    write_parquet(tmp_path / "1.parquet", filepath=["1.png"], caption=["b"])
    refused("1.parquet: there is no column 'title'", lambda: opened("parquet", tmp_path))
    write_parquet(tmp_path / "1.parquet", filepath=["1.png"], title=[b"b"])
    refused("1.parquet: the column 'title' has the type binary", lambda: opened("parquet", tmp_path))
    file = write_parquet(tmp_path / "1.parquet", filepath=["1.png"], title=["b"])
    file.write_bytes(file.read_bytes()[:-100])
    refused("1.parquet: cannot be read as parquet", lambda: opened("parquet", tmp_path))
    write_parquet(tmp_path / "1.parquet", filepath=["1.png"], title=pa.array(["b"], pa.large_string()))
    assert captions(opened("parquet", tmp_path)) == [("a",), ("b",)]


@pytest.mark.parametrize("columns", [{"split": "split"}, {"label": "split"}, {}])
def test_invalid_row_near_the_end_is_refused_with_its_number(columns, tmp_path):
    file = write_csv(tmp_path / "c.csv", ["filepath", "split", "title"], [["a.png", "train", "word " * 40]] * 8000)
    with file.open("a") as lines:
        lines.write("a.png,train,a cat, asleep\n")
    refused("c.csv: line 8002: Expected 3 columns, got 4", lambda: opened("csv", file, **columns))


def test_text_that_is_not_utf_8_is_one_line_with_its_row(tmp_path):
    raw = pa.array([b"plain", b"caf\xe9 table", b"x"], pa.binary())
    title = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    write_parquet(tmp_path / "c.parquet", filepath=["a.png", "b.png", "c.png"], title=title)
    refused("c.parquet: row 2: 'title' is not in UTF-8", lambda: opened("parquet", tmp_path / "c.parquet"))
    refused("row 2: 'title' is not", lambda: opened("parquet", tmp_path / "c.parquet", image="title", captions=()))
    for form, text in (
        ("csv", b"filepath,title\na.png,x\nb.png,caf\xe9\n"),
        ("jsonl", b'{"title": "a"}\n{"a": "\xe9"}'),
    ):
        file = tmp_path / f"c.{form}"
        file.write_bytes(text)
        refused(f"c.{form}: line {3 if form == 'csv' else 2}: is not in UTF-8", lambda f=form, at=file: opened(f, at))


@pytest.mark.parametrize(
    ("encoding", "fine"), [("utf-8-sig", True), ("utf-16", False), ("utf-16-le", False), ("utf-32", False)]
)
def test_byte_order_mark_is_not_part_of_the_first_name(encoding, fine, tmp_path):
    (tmp_path / "c.csv").write_text("filepath,title\na.png,one\n", encoding=encoding)
    (tmp_path / "c.jsonl").write_text('{"filepath": "a.png", "title": "one"}\n', encoding=encoding)
    for form in ("csv", "jsonl"):
        if fine:
            assert captions(opened(form, tmp_path / f"c.{form}")) == [("one",)]
        else:
            refused(
                f"c.{form}: is not in UTF-8 .*save it as UTF-8", lambda form=form: opened(form, tmp_path / f"c.{form}")
            )


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("csv", "", "has no header"),
        ("csv", "\ufeff\n\n", "has no header"),
        ("csv", "filepath,title\n", "has no rows, and so the split 'train' is empty"),
        ("csv", "filepath,title,title\na,b,c\n", "there are 2 columns 'title'"),
        ("jsonl", "", "there is no column 'filepath'"),
        ("jsonl", '{"filepath": "a"}\n[1]\n', "line 2: expected an object"),
        ("jsonl", '{"filepath": "a"}\n\n{"x\n', "line 3: not JSON"),
        ("jsonl", "[" * 100_000, "line 1: not JSON"),
        ("jsonl", '{"filepath": ["a"], "title": "b"}', "line 1: the column 'filepath': list .* is no image"),
        ("jsonl", '{"filepath": "a", "title": 7}', "line 1: the column 'title': int .7. is no caption"),
        ("jsonl", '{"filepath": "a", "title": [{"raw": "b"}]}', "'title': a record with 'raw' is no caption"),
    ],
)
def test_error_in_a_text_file_is_reported_with_its_line(form, text, message, tmp_path):
    file = tmp_path / f"c.{form}"
    file.write_text(text, newline="")
    refused(message, lambda: opened(form, file))


# Images


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ([[b"x"]], "list<"),
        ([[{"bytes": b"x", "path": None}]], "list<.*several images make a row each"),
        ([{"data": b"x"}], "struct<"),
        ([{"bytes": 1}], "struct<"),
        ([3], "int64"),
    ],
)
def test_image_column_of_another_type_is_refused_when_it_is_opened(column, kind, tmp_path):
    file = write_parquet(tmp_path / "c.parquet", images=column, title=["x"])
    refused(f"the column 'images' has the type {kind}", lambda: opened("parquet", file, image="images"))


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("start", ["", "data:image/png;base64,"])
def test_images_in_base64_are_read(encode, form, start, tmp_path):
    texts = [start + encode(png(n)).decode() for n in range(2)]
    file = tmp_path / f"c.{form}"
    match form:
        case "parquet":
            write_parquet(file, image=texts, title=["a", "b"])
        case "jsonl":
            write_jsonl(file, [{"image": text, "title": "a"} for text in texts])
        case _:
            write_csv(file, ["image", "title"], [[text, "a"] for text in texts], "\t" if form == "tsv" else ",")
    source = opened("csv" if form == "tsv" else form, file, image="image")
    assert [each.image for each in source.samples("train")] == [png(0), png(1)]
    assert [each.id for each in source.samples("train")] == ["train-00000000", "train-00000001"]
    assert list(source.files()) == [file]


@pytest.mark.parametrize(
    "kind",
    ["string", "large_string", "dictionary", "string_view", "struct", "csv", "jsonl"],
)
def test_store_is_rebuilt_when_a_listed_image_changes(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path / "cache"))
    names = write_pictures(tmp_path, 3)
    paths = pa.array(names)
    match kind:
        case "csv":
            reference = f"csv:{write_csv(tmp_path / 'c.csv', ['filepath', 'title'], [[n, n] for n in names])}"
        case "jsonl":
            reference = f"jsonl:{write_jsonl(tmp_path / 'c.jsonl', [{'filepath': n, 'title': n} for n in names])}"
        case _:
            column = {
                "dictionary": lambda: paths.dictionary_encode(),
                "struct": lambda: pa.array(
                    [{"bytes": None, "path": name} for name in names],
                    pa.struct({"bytes": pa.binary(), "path": pa.large_string()}),
                ),
            }.get(kind, lambda: paths.cast(getattr(pa, kind)()))()
            reference = f"parquet:{write_parquet(tmp_path / 'c.parquet', filepath=column, title=names)}"
    first = open_store(reference, image_size=16, context_length=8)
    assert open_store(reference, image_size=16, context_length=8).path == first.path
    (tmp_path / names[1]).write_bytes(png(99))
    assert open_store(reference, image_size=16, context_length=8).meta.content_hash != first.meta.content_hash


def test_ids_may_be_numbers_and_default_to_the_path(tmp_path):
    file = write_parquet(tmp_path / "c.parquet", filepath=["a.png", "b.png"], title=["a", "b"], key=[7.0, None])
    assert [each.id for each in opened("parquet", file, id="key").samples("train")] == ["7", "b.png"]
    file = write_parquet(tmp_path / "c.parquet", filepath=["a.png"], title=["a"], key=[[7]])
    refused("the column 'key' has the type list<", lambda: opened("parquet", file, id="key"))


def test_images_of_other_splits_are_not_read(tmp_path):
    """The rows of a split are found by their numbers: a damaged page of another row group does not matter to them."""
    table = pa.table(
        {"filepath": [png(n) for n in range(4)], "title": list("abcd"), "split": ["train"] * 2 + ["val"] * 2}
    )
    pq.write_table(table, tmp_path / "c.parquet", row_group_size=2, compression="none", use_dictionary=False)
    content = bytearray((tmp_path / "c.parquet").read_bytes())
    place = pq.read_metadata(tmp_path / "c.parquet").row_group(1).column(0).data_page_offset
    content[place : place + 16] = b"\xff" * 16
    (tmp_path / "c.parquet").write_bytes(content)
    source = opened("parquet", tmp_path / "c.parquet", split="split")
    assert captions(source, "train") == [("a",), ("b",)]
    refused("c.parquet: after row 2: cannot be read as parquet", lambda: source)


def test_labels_need_no_captions(tmp_path):
    file = write_csv(tmp_path / "c.csv", ["filepath", "label"], [["a.png", "cat"], ["b.png", "dog"]])
    source = opened("csv", file, label="label")
    assert (captions(source), labels(source), source.classes) == ([(), ()], [0, 1], ("cat", "dog"))
    refused("there is no column 'title'", lambda: opened("csv", file))
    refused("there is no column 'text'", lambda: opened("csv", file, label="label", captions=("text",)))


def test_numbers_in_json_lines_are_those_of_parquet(tmp_path):
    rows = [{"filepath": "a.png", "title": "a", "label": 1}, {"filepath": "b.png", "label": None, "title": None}]
    source = opened("jsonl", write_jsonl(tmp_path / "c.jsonl", rows), label="label")
    assert (captions(source), labels(source), source.classes) == ([("a",), ()], [1, None], ("0", "1"))
    (tmp_path / "n.jsonl").write_text(json.dumps({"filepath": "a", "title": float("nan")}))
    assert captions(opened("jsonl", tmp_path / "n.jsonl")) == [()]


@pytest.mark.parametrize("encode", [bytes, lambda content: base64.b64encode(content).decode()])
def test_large_rows_are_read_a_few_at_a_time(encode, tmp_path):
    """Memory is that of some rows: images as bytes, or in base64, which are texts to the schema."""
    rng = np.random.default_rng(0)
    images = [encode(png(n) + rng.bytes(1 << 20)) for n in range(48)]
    source = opened("parquet", write_parquet(tmp_path / "c.parquet", filepath=images, title=["a"] * 48))
    del images
    tracemalloc.start()
    count = sum(1 for _ in source.samples("train"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 48
    assert peak < 40e6, "16 rows, and an image decoded; all are 50 or 67 MB"


def test_table_separated_by_semicolons_is_refused_with_that_reason(tmp_path):
    (tmp_path / "c.csv").write_text("filepath;title\n0.png;a cat\n")
    with pytest.raises(UserError, match="semicolons: expected commas or tabs"):
        find_source(f"csv:{tmp_path / 'c.csv'}")

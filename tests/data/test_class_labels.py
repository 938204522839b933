"""Labels and class names: normalised once, the same for every form of table, and refused before anything is built."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labeled_files import write_image_folder
from table_files import labels, opened, write_csv, write_jsonl, write_parquet

from gaptune.data.sources import ImageFolder
from gaptune.data.sources.labels import Classes, normal_label, read_class_names, read_prompts
from gaptune.errors import UserError


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0, 0),
        (1.0, 1),
        (True, 1),
        (np.int64(7), 7),
        (np.float32(2), 2),
        (np.bool_(False), 0),
        ("3", 3),
        (" 3.0 ", 3),
        ("10.", 10),
        ("-1", -1),
        ("cat", "cat"),
        (" golden retriever\n", "golden retriever"),
        ("007", "007"),
        ("1e3", "1e3"),
        ("1.5", "1.5"),
        (None, None),
        (float("nan"), None),
        (np.float64("nan"), None),
        ("", None),
        (" \t", None),
    ],
)
def test_label_is_an_index_a_name_or_nothing(value, label):
    found = normal_label(value)
    assert (found, type(found)) == (label, type(label))


@pytest.mark.parametrize("value", [0.5, float("inf"), [1], {"a": 1}, b"cat", np.array([1, 2])])
def test_nothing_else_is_a_label(value):
    with pytest.raises(UserError, match="is no label: expected a whole number or a name"):
        normal_label(value)


def test_classes_without_names_are_numbers_or_the_sorted_names():
    assert Classes.of_labels([2, 0, None], "x").names == ("0", "1", "2")
    assert Classes.of_labels(["dog", None, "cat"], "x").names == ("cat", "dog")
    mixed = Classes.of_labels([7, "cat", "007"], "x")
    assert mixed.names == ("007", "7", "cat")
    assert [mixed.index(label) for label in (7, "cat", "007", None)] == [1, 2, 0, None]
    assert Classes.of_labels([], "x").names == ()
    for numbers in ([-1, 0], [0, 123_456_789]):
        with pytest.raises(UserError, match=r"x: labels go from .* expected indices from 0 to at most 9999, names"):
            Classes.of_labels(numbers, "x")


def test_names_are_found_by_index_or_by_name():
    classes = Classes(["cat", "dog", "True"], "classnames.txt")
    assert [classes.index(label) for label in (0, "dog", "cat", "True", None)] == [0, 1, 0, 2, None]
    for label, message in (
        (3, "label 3 is not an index into the 3 classes of classnames.txt"),
        (-1, "label -1 is not an index"),
        ("dgo", r"'dgo' is neither an index nor one of the names of classnames.txt \(did you mean 'dog'"),
    ):
        with pytest.raises(UserError, match=message):
            classes.index(label)
    assert Classes(["no", "yes"], "x").index("True") == 1
    digits = Classes([str(n) for n in range(9, -1, -1)], "x")
    assert digits.index(3) == 3, "an index, where all names are numbers"


def test_two_classes_with_one_name_log_a_warning(caplog):
    classes = Classes(["crane", "dog", "crane"], "classnames.txt")
    assert "classnames.txt: several classes have one name: 'crane'" in caplog.text
    assert classes.index(2) == 2
    with pytest.raises(UserError, match=r"'crane' is the name of several classes of classnames.txt: use indices"):
        classes.index("crane")


# In tables

ANIMALS = [f"animal {k}" for k in range(12)]


def table(tmp_path, form, values, **how):
    names = [f"{k}.png" for k in range(len(values))]
    match form:
        case "csv" | "tsv":
            file = tmp_path / f"c.{form}"
            pd.DataFrame({"filepath": names, "title": names, "label": values}).to_csv(
                file, index=False, sep="\t" if form == "tsv" else ","
            )
            form = "csv"
        case "jsonl":
            rows = [{"filepath": name, "label": value} for name, value in zip(names, values, strict=True)]
            file = write_jsonl(tmp_path / "c.jsonl", rows)
        case _:
            file = write_parquet(tmp_path / "c.parquet", filepath=names, title=names, label=how.get("column", values))
    return opened(form, file, label="label")


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_whole_numbers_are_indices_into_classnames_in_every_form(form, tmp_path):
    (tmp_path / "classnames.txt").write_text("\n".join(ANIMALS) + "\n")
    source = table(tmp_path, form, list(range(12)))
    assert source.classes == tuple(ANIMALS)
    assert labels(source) == list(range(12))
    assert [file.name for file in source.files()][1] == "classnames.txt"


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_labels_are_the_same_in_every_form(form, tmp_path):
    assert labels(table(tmp_path, form, [0, 10, 2])) == [0, 10, 2]
    assert table(tmp_path, form, [0, 10, 2]).classes == tuple(map(str, range(11)))
    assert labels(table(tmp_path, form, [0.0, 1.0, None, 1.0])) == [0, 1, None, 1]
    names = table(tmp_path, form, [" dog", "cat ", "", None])
    assert (labels(names), names.classes) == ([1, 0, None, None], ("cat", "dog"))
    assert labels(table(tmp_path, form, [True, False])) == [1, 0]
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    assert labels(table(tmp_path, form, ["dog", "cat", None])) == [1, 0, None]
    assert labels(table(tmp_path, form, [True, False])) == [1, 0]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([0, 1], pa.uint8()), [0, 1]),
        (pa.array([True, False]), [1, 0]),
        (pa.array(np.array([1.0, np.nan], np.float16)), [1, None]),
        (pa.array(["a", "b"]).dictionary_encode(), [0, 1]),
        (pa.array(["1", "0"], pa.large_string()), [1, 0]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_labels_of_all_plain_types_are_read(column, expected, tmp_path):
    assert labels(table(tmp_path, "parquet", [0, 1], column=column)) == expected


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([[0], [1]]), "list<"),
        (pa.array([{"a": 1}, None]), "struct<"),
        (pa.array([b"cat", b"dog"]), "binary"),
        (pa.array([pd.Timestamp("2020-01-01")] * 2), "timestamp"),
    ],
)
def test_labels_of_another_type_are_refused_by_column_and_type(column, kind, tmp_path):
    with pytest.raises(UserError, match=f"c.parquet: the column 'label' has the type {kind}"):
        table(tmp_path, "parquet", [0, 1], column=column)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_invalid_label_is_refused_with_its_location(form, tmp_path):
    where = {"csv": "line 3", "jsonl": "line 2", "parquet": "row 2"}[form]
    if form == "csv":
        write_csv(tmp_path / "classnames.txt", ["a"], [["b"]])
        with pytest.raises(
            UserError, match=r"c.csv: the column 'label': '0.5' is neither an index nor one of the names"
        ):
            table(tmp_path, form, [0, 0.5])
    else:
        with pytest.raises(UserError, match=f"{where}: the column 'label': 0.5 is no label"):
            table(tmp_path, form, [0.0, 0.5])
    (tmp_path / "classnames.txt").write_text("a\nb\n")
    with pytest.raises(
        UserError, match=r"the column 'label': label 2 is not an index into the 2 classes of .*classnam"
    ):
        table(tmp_path, form, [0, 2])


def class_label(path, names, values):
    feature = {"label": {"names": names, "_type": "ClassLabel"}}
    made = pa.table({"filepath": ["a.png"] * len(values), "title": ["a"] * len(values), "label": values})
    made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    pq.write_table(made, path)
    return path


def test_class_names_in_the_schema_are_used(tmp_path):
    source = opened("parquet", class_label(tmp_path / "0.parquet", ["dog", "cat"], [0, 1, 0, -1]), label="label")
    assert (source.classes, labels(source)) == (("dog", "cat"), [0, 1, 0, None])
    class_label(tmp_path / "1.parquet", ["dog", "cat"], [1])
    assert labels(opened("parquet", tmp_path, label="label")) == [0, 1, 0, None, 1]
    class_label(tmp_path / "1.parquet", ["cat", "dog"], [1])
    with pytest.raises(UserError, match=r"1.parquet has other class names than .*0.parquet"):
        opened("parquet", tmp_path, label="label")
    (tmp_path / "classnames.txt").write_text("hound\ntabby\n")
    assert opened("parquet", tmp_path, label="label").classes == ("hound", "tabby")


def test_class_names_are_found_beside_each_table_or_above_its_splits(tmp_path):
    for split in ("train", "test"):
        write_csv(tmp_path / split / "c.csv", ["filepath", "label"], [["a.png", "1"], ["b.png", "0"]])
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    (tmp_path / "zeroshot_classification_templates.txt").write_text("the {c}\n")
    source = opened("csv", tmp_path, label="label")
    assert (source.classes, source.prompts) == (("cat", "dog"), ("the {}",))
    (tmp_path / "test/classnames.txt").write_text("dog\ncat\n")
    with pytest.raises(UserError, match=r"classnames.txt has other class names than .*classnames.txt"):
        opened("csv", tmp_path, label="label")


# Files of names and templates


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"cat\ndog\n", ("cat", "dog")),
        (b"\xef\xbb\xbfcat\r\ndog", ("cat", "dog")),
        (" caf\u00e9\u2028x \ndog\n\n \n".encode(), ("caf\u00e9\u2028x", "dog")),
    ],
)
def test_class_names_are_lines(content, names, tmp_path):
    (tmp_path / "classnames.txt").write_bytes(content)
    assert read_class_names(tmp_path) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "classnames.txt: has no lines"),
        (b"cat\n\ndog\n", "classnames.txt:2: is blank, but 'dog' follows"),
        (b"cat\ncaf\xe9\n", "classnames.txt:2: is not in UTF-8"),
        ("cat\n".encode("utf-16"), "classnames.txt: is not in UTF-8 .*UTF-16"),
    ],
)
def test_invalid_class_names_are_refused_in_one_line(content, message, tmp_path):
    (tmp_path / "classnames.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_class_names(tmp_path)


@pytest.mark.parametrize(
    "template",
    [
        "a {c!r}.",
        "a {c:>10}.",
        "a {!r}.",
        "a {:d}",
        "a {c.x}",
        "a {c[0]}",
        "a {0}",
        "a {x}",
        "a {c} {c}",
        "a {} {c}",
        "a {",
        "a }",
        "a {c",
        "none",
    ],
)
def test_template_with_an_unknown_placeholder_is_refused_before_an_image_is_read(template, tmp_path):
    folder = write_image_folder(tmp_path / "data")
    file = folder / "zeroshot_classification_templates.txt"
    file.write_text(f"a {{c}}.\n\n{template}\n")
    with pytest.raises(UserError, match=r"templates.txt:3: .* must have \{c\} once") as caught:
        ImageFolder(folder)
    assert repr(template) in str(caught.value)


def test_templates_have_the_class_once(tmp_path):
    (tmp_path / "zeroshot_classification_templates.txt").write_bytes(b"\xef\xbb\xbfa {c}\r\nthe {}\n{c}: it\n")
    assert read_prompts(tmp_path) == ("a {}", "the {}", "{}: it")

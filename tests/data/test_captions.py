"""What a caption is, in every form of table."""

import csv
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from table_files import captions, opened, write_csv, write_jsonl, write_parquet

from gaptune.data.sources.captions import caption_texts
from gaptune.errors import UserError


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a dog", ("a dog",)),
        ("  a\ndog \r\n", ("a\ndog",)),
        (["a", " b ", "", None, float("nan"), "\t"], ("a", "b")),
        (np.array(["a", "b"], dtype=object), ("a", "b")),
        (None, ()),
        (float("nan"), ()),
        (np.float32("nan"), ()),
        (" \n", ()),
        ("half \ud83d pair", ("half ? pair",)),
        ("null", ("null",)),
    ],
)
def test_texts_and_lists_of_texts_are_captions_without_blank_ones(value, texts):
    assert caption_texts(value) == texts


@pytest.mark.parametrize("value", [b"a", 3, 0.5, True, {"raw": "a"}, [["a"]], [{"raw": "a"}], object()])
def test_nothing_else_is_a_caption(value):
    with pytest.raises(UserError, match="is no caption"):
        caption_texts(value)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([b"caf\xc3\xa9"]), "has the type binary: .*decode"),
        (pa.array([b"a"], pa.large_binary()), "has the type large_binary"),
        (pa.array([[{"raw": "a", "sentid": 1}]]), "list<.*make a column of one of the fields 'raw', 'sentid'"),
        (pa.array([{"raw": "a"}]), "struct<raw: string>: .*'raw'"),
        (pa.array([3]), "int64"),
        (pa.array([True]), "bool"),
        (pa.array([[["a"]]]), "list<"),
        (pa.array([1.5]), "row 1: the column 'cap': float .1.5. is no caption"),
        (pa.array([pd.Timestamp("2020-01-01")]), "timestamp"),
    ],
)
def test_column_of_another_type_is_refused_when_the_table_is_opened(column, message, tmp_path):
    file = write_parquet(tmp_path / "c.parquet", filepath=["a.png"], cap=column)
    with pytest.raises(UserError, match=f"c.parquet: .*{message}"):
        opened("parquet", file, captions=("cap",))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, " b "]),
        pa.array(["a", None, " b "], pa.large_string()),
        pa.array(["a", None, " b "], pa.string_view()),
        pa.array(["a", None, " b "]).dictionary_encode(),
        pa.array([["a"], None, ["", "b"]]),
        pa.array([["a"], [], [None, "b"]], pa.large_list(pa.large_string())),
        pa.array([["a"], ["", None], ["b", " "]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    ],
)
def test_all_columns_of_texts_are_read_alike(column, tmp_path):
    file = write_parquet(tmp_path / "c.parquet", filepath=["a.png", "b.png", "c.png"], cap=column)
    assert captions(opened("parquet", file, captions=("cap",))) == [("a",), (), ("b",)]


@pytest.mark.parametrize("column", [pa.array([float("nan"), None]), pa.nulls(2), pa.array([[None], []])])
def test_missing_caption_is_none_for_any_column_type(column, tmp_path):
    file = write_parquet(tmp_path / "c.parquet", filepath=["a.png", "b.png"], cap=column)
    assert captions(opened("parquet", file, captions=("cap",))) == [(), ()]


# Quotation marks


def tsv(tmp_path, *titles, header="filepath\ttitle"):
    lines = "".join(f"{n:03d}.png\t{title}\n" for n, title in enumerate(titles))
    (tmp_path / "c.tsv").write_text(f"{header}\n{lines}", newline="")
    return opened("csv", tmp_path / "c.tsv")


@pytest.mark.parametrize(
    "titles",
    [
        ('"big dog sits', "b", "c", '"cats here', "e"),
        ("a", '"big dog', "c", 'the 5"', "e"),
        ("a", '"Big" dog', "c"),
        ("a", '"', "b"),
        ('5" disk', 'say "hi"', "it''s"),
        ("a", "b\rc\u2028d\x85e\x0bf\x1cg", "c"),
    ],
)
def test_lone_quotation_mark_between_tabs_is_a_character(titles, tmp_path):
    assert captions(tsv(tmp_path, *titles)) == [(title,) for title in titles]


def test_quoted_values_between_tabs_are_those_that_pandas_wrote(tmp_path):
    titles = ['he said "hi"', "a\ttab", "two\nlines", "plain", '"all"', '""', "it's", "a,b"]
    frame = pd.DataFrame({"filepath": [f"{n}.png" for n in range(len(titles))], "title": titles})
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        frame.to_csv(tmp_path / "c.tsv", sep="\t", index=False, quoting=quoting)
        assert captions(opened("csv", tmp_path / "c.tsv")) == [(title,) for title in titles]
    assert captions(tsv(tmp_path, '"he said ""hi"""', '"x"')) == [('he said "hi"',), ("x",)], "as pandas reads it"


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0.png|a", '1.png|"big dog', "2.png|c", '3.png|the 5"|x'], "line"),
        (["0.png|a|b", '1.png|"big dog', "2.png|c"], "line"),
    ],
)
def test_quotation_mark_never_swallows_rows(separator, lines, message, tmp_path):
    text = "\n".join(["filepath|title", *lines]).replace("|", separator)
    (tmp_path / "c.csv").write_text(text + "\n")
    with pytest.raises(UserError, match=f"c.csv: {message} \\d: "):
        opened("csv", tmp_path / "c.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['1.png,"big dog', "2.png,c", "3.png,d"], "line 2: a quotation mark is opened and never closed"),
        (['1.png,"big dog', "2.png,c", '3.png,"cats" here'], "line 2: .*never closed"),
        (['1.png,"big dog', "2.png,c", '3.png,the 5"', "4.png,e"], "line 2: .* before line 3, which is a row"),
        (
            ['images/cat_1,"big dog', 'images/dog_2,the 5"', "images/cat_3,e"],
            "line 2: .* before line 3, which is a row",
        ),
        (['1.png,"big" dog', "2.png,c"], "line 2: a quotation mark in a quoted value"),
    ],
)
def test_lone_quotation_mark_between_commas_is_refused_with_its_line(rows, message, tmp_path):
    (tmp_path / "c.csv").write_text("\n".join(["filepath,title", *rows]) + "\n")
    with pytest.raises(UserError, match=message):
        opened("csv", tmp_path / "c.csv")


def test_csv_values_of_several_lines_are_captions(tmp_path):
    titles = ["a, b\nc, d", 'one\n"two", three\n', "x\r\ny", "1,2\n3,4"]
    for names in ([f"{n}.png" for n in range(4)], [f"COCO_{n}" for n in range(4)]):
        write_csv(tmp_path / "c.csv", ["filepath", "title"], zip(names, titles, strict=True))
        assert captions(opened("csv", tmp_path / "c.csv")) == [(title.strip(),) for title in titles]


# Round trips

_LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
_ODD = st.sampled_from(
    ['"', "'", ",", "\t", "\n", "\r\n", "\r", "\u2028", "\x85", "\x1c", "\ufeff", " ", "\\", "a", "é", "😀"]
)
TEXTS = st.lists(st.one_of(_ODD, _LETTERS, st.just("word")), max_size=8).map("".join)
_SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_SETTINGS
@example(['"', 'a"b"', '""', "\ufeff", "\r", "\n,\n", "x\ty"])
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_any_text_is_read_back_from_every_form(tmp_path, texts):
    expected = [(text.strip(),) if text.strip() else () for text in texts]
    names = [f"{n}.png" for n in range(len(texts))]
    rows = list(zip(names, texts, strict=True))
    write_csv(tmp_path / "c.csv", ["filepath", "title"], rows)
    assert captions(opened("csv", tmp_path / "c.csv")) == expected
    write_csv(tmp_path / "c.csv", ["filepath", "title"], rows, lineterminator="\n", quoting=csv.QUOTE_ALL)
    assert captions(opened("csv", tmp_path / "c.csv")) == expected
    write_jsonl(tmp_path / "c.jsonl", [{"filepath": name, "title": text} for name, text in rows])
    assert captions(opened("jsonl", tmp_path / "c.jsonl")) == expected
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        write_parquet(tmp_path / "c.parquet", filepath=names, title=pa.array(texts, kind))
        assert captions(opened("parquet", tmp_path / "c.parquet")) == expected


@_SETTINGS
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_text_between_tabs_is_read_back_or_refused_but_never_truncated(tmp_path, texts):
    """Written by the csv module, a quoted value may look like two rows only if it has a tab and a line end itself."""
    rows = [[f"{n}.png", text] for n, text in enumerate(texts)]
    expected = [(text.strip(),) if text.strip() else () for text in texts]
    write_csv(tmp_path / "c.tsv", ["filepath", "title"], rows, "\t", lineterminator="\n")
    if any("\t" in line for text in texts for line in text.split("\n")[1:]):
        return
    assert captions(opened("csv", tmp_path / "c.tsv")) == expected


@_SETTINGS
@given(
    st.lists(TEXTS.map(lambda text: text.replace("\t", " ").replace("\n", " ").rstrip("\r")), min_size=1, max_size=6)
)
def test_text_that_was_written_without_quoting_keeps_its_rows(tmp_path, texts):
    lines = io.StringIO(newline="")
    lines.write("filepath\ttitle\n")
    lines.writelines(f"{n}.png\t{text}\n" for n, text in enumerate(texts))
    (tmp_path / "c.tsv").write_text(lines.getvalue(), encoding="utf-8", newline="")
    found = captions(opened("csv", tmp_path / "c.tsv"))
    assert len(found) == len(texts)
    if not any(text.startswith('"') and text.endswith('"') for text in texts):
        assert found == [(text.strip(),) if text.strip() else () for text in texts]

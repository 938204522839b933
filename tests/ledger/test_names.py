"""What a sweep may be called."""

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaptune.errors import UserError
from gaptune.ledger import find_sweep, sweep_folder
from gaptune.ledger.names import check_name, default_name, fitting_name

ANYTHING = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    "name", ["s", "temp-20261125-193000-1f2a", "run[lr] 1", "a.b", "lr=0.1, tau=0.07", "Größe", "字"]
)
def test_names_that_are_allowed(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("..", "begins with a dot"),
        (".hidden", "begins with a dot"),
        ("-x", "begins with"),
        ("a ", "ends with"),
        ("a.", "ends with"),
        ("a/b", "it has '/'"),
        ("/etc", "it has '/'"),
        ("a\\b", r"it has '\\\\'"),
        ("a\0", "it has '"),
        ("a\nb", "it has '"),
        ("a\udc80", "it has '"),
        ("\u202eab", "it has '"),
        ("x$y$", r"it has '\$'"),
        ("a%2fb", "it has '%'"),
        ("n" * 260, "260 bytes"),
        ("字" * 40, "120 bytes"),
        ("mlflow.db", "MLflow's tracking store"),
        ("MLflow.db-wal", "MLflow's tracking store"),
        ("mlartifacts", "MLflow's tracking store"),
        ("example", "an example sweep has that name"),
        ("example-paper", "an example sweep has that name"),
    ],
)
def test_names_that_are_not_allowed_with_the_reason(name, why):
    with pytest.raises(UserError, match=why) as error:
        check_name(name)
    assert len(str(error.value)) < 300
    assert str(error.value).isprintable()


@given(ANYTHING)
def test_an_allowed_name_is_one_folder_and_one_part_of_a_url(tmp_path_factory, name):
    try:
        check_name(name)
    except UserError:
        return
    results = tmp_path_factory.getbasetemp() / "names"
    (results / name).mkdir(parents=True, exist_ok=True)
    assert (results / name).resolve().parent == results.resolve()
    url = urllib.parse.urlsplit(f"s3://bucket/{urllib.parse.quote(name)}/ledger.jsonl")
    assert urllib.parse.unquote(url.path).split("/")[1:] == [name, "ledger.jsonl"]


@given(ANYTHING)
def test_any_text_is_turned_into_an_allowed_name(text):
    name = fitting_name(text)
    assert check_name(name) == name
    assert fitting_name(text) == name
    assert fitting_name(name) == name


def test_long_texts_that_differ_stay_different():
    one, other = (fitting_name(f"{'x' * 200}{middle}{'y' * 200}") for middle in "ab")
    assert one != other


@given(ANYTHING)
def test_default_names_of_one_second_differ(tmp_path_factory, space):
    results = tmp_path_factory.getbasetemp()
    names = {default_name(text, results, 1.0) for text in (space, 20 * space, 40 * "字")}
    assert all(check_name(name) == name for name in names)
    assert len({default_name("temp", results, 1.0) for _ in range(20)}) > 10


def test_readers_never_leave_the_results_directory(tmp_path):
    for place in (tmp_path, tmp_path / "results" / "old$name"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "ledger.jsonl").touch()
    (tmp_path / "results" / "s").mkdir()
    for name in ("..", ".", "", "s/..", str(tmp_path), "../results/old$name", "x\0", "n" * 5000):
        for look in (find_sweep, sweep_folder):
            with pytest.raises(UserError, match="no sweep"):
                look(tmp_path / "results", name)
    assert find_sweep(tmp_path / "results", "old$name").name == "old$name"  # of an earlier version: still to be read

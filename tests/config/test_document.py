from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from gaptune.config import SweepConfig, load_sweep_config, parameter_fields
from gaptune.config.document import _EXPECTED, _schema_in, read_yaml
from gaptune.errors import UserError, did_you_mean
from gaptune.space.parse import ParameterEntry, SpaceFile, load_space

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 99))
MERGES = "a0: &a0 {k: 1, l: 2}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 99)
)

BROKEN: dict[str, tuple[bytes, int | None, str]] = {
    "empty": (b"", 1, "is empty; expected a mapping"),
    "only comments": (b"# nothing\n\n", 1, "is empty"),
    "list at the top": (b"- a\n- b\n", 1, "has a list at the top level"),
    "text at the top": (b"just words\n", 1, "has a str at the top level"),
    "tab": (b"a:\n\tb: 1\n", 2, "cannot start any token"),
    "unclosed bracket": (b"a: [1, 2\nb: 3\n", 2, "not valid YAML"),
    "unclosed quote": (b'a: "x\nb: 3\n', 3, "not valid YAML"),
    "key twice": (b"a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a' (first on line 1)"),
    "key twice, deep": (b"a:\n  - b: 1\n    b: 2\n", 3, "duplicate key 'b' (first on line 2)"),
    "two documents": (b"a: 1\n---\nb: 2\n", 2, "not valid YAML"),
    "list as a key": (b"a: 1\n? [1, 2]\n: 3\n", 2, "a key is a list or a mapping"),
    "unknown alias": (b"a: 1\nb: *c\n", 2, "undefined alias"),
    "Python tag": (b"a: 1\nb: !!python/object:os.system {}\n", 2, "os.system' is not allowed"),
    "custom tag": (b"a: 1\nb: !mine 3\n", 2, "the tag '!mine' is not allowed"),
    "base64": (b"a: !!binary aGVsbG8=\n", 1, "binary' is not allowed"),
    "a set": (b"a: !!set {x}\n", 1, "set' is not allowed"),
    "text for a number": (b"a: 1\nb: !!int many\n", 2, "'many' is not an integer"),
    "text for a truth value": (b"a: 1\nb: !!bool perhaps\n", 2, "'perhaps' is not true or false"),
    "text for a real number": (b"a: !!float x\n", 1, "'x' is not a number"),
    "integer of 400 digits": (b"a: 1\nb: 1" + b"0" * 399, 2, "is too large"),
    "integer of 65 bits": (b"a: 18446744073709551616\n", 1, "the number '18446744073709551616' is too large"),
    "integer of a million digits": (b"a: " + b"9" * 900_000, 1, "too long for a number (900,000 characters)"),
    "minutes without end": (b"a: 1" + b":59" * 300_000, 1, "too long for a number (900,001 characters)"),
    "minutes past any number": (b"a: 1" + b":9" * 190 + b".5", 1, "is not a number"),
    "infinity by digits": (b"a: 1\nb: -1e400\n", 2, "the number '-1e400' is too large"),
    "unpaired surrogate": (b'a: "\\ud800"\n', 1, "contains an unpaired surrogate"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\x00", 1, "cannot be read: not UTF-8 text (byte 0x89)"),
    "Latin-1": (b"a: 1\nb: caf\xe9\n", 2, "cannot be read: not UTF-8 text (byte 0xe9)"),
    "zero bytes": (b"a: 1\nb: \x00\x00\n", 2, "not valid YAML: unacceptable character '\\x00'"),
    "UTF-16": ("a: 1".encode("utf-16"), None, "cannot be read: the encoding is UTF-16"),
    "alias inside its anchor": (b"a: &x\n  b: *x\n", 1, "inside its own anchor"),
    "bottomless": (b"a: " + b"[" * 5000, 1, "nested too deeply"),
    "bottomless, indented": (b"- " * 400_000, 1, "nested too deeply"),
    "aliases of aliases": (LAUGHS.encode(), 11, "more than 100,000 entries with aliases expanded"),
    "merges of merges": (MERGES.encode(), 17, "more than 100,000 entries with aliases expanded"),
    "a million items": (b"a: [" + b"1," * 490_000 + b"1]", 1, "more than 100,000 entries"),
    "ten megabytes": (b"# " + b"x" * 10_000_000, None, "is too large for a config file (more than 1,000,000 bytes)"),
}


@pytest.mark.parametrize(("content", "line", "gist"), BROKEN.values(), ids=BROKEN)
def test_invalid_file_error_is_one_line_with_file_and_line(
    tmp_path: Path, content: bytes, line: int | None, gist: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert time.process_time() - started < 10
    message = str(caught.value)
    assert len(message) < 1000
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: "), message
    assert gist in message
    assert "\n" not in message


def test_missing_file_error_suggests_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "temp.yaml").write_text("a: 1", encoding="utf-8")
    with pytest.raises(UserError, match=r"no such file: .*tmep\.yaml \(did you mean '.*temp\.yaml'\?\)"):
        read_yaml(tmp_path / "tmep.yaml")


def test_missing_directory_error_has_no_hint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file: .*a\.yaml$"):
        read_yaml(tmp_path / "nowhere" / "a.yaml")


def test_directories_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place, what in (
        (tmp_path, "a directory"),
        (tmp_path / "pipe", "a device or pipe"),
        ("/dev/zero", "a device or pipe"),
    ):
        with pytest.raises(UserError, match=f"cannot be read: it is {what}"):
            read_yaml(place)


def test_aliases_merges_and_dates_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    text = "a: &a {k: 1, l: 2}\nb: {<<: *a, l: 3}\nc: [*a, *a]\nd: 2024-02-30\ne: =\nf: 1\ng: !!str 3\n"
    path.write_text(text, encoding="utf-8")
    same = {"k": 1, "l": 2}
    expected = {"a": same, "b": {"k": 1, "l": 3}, "c": [same, same], "d": "2024-02-30", "e": "=", "f": 1, "g": "3"}
    assert read_yaml(path).data == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-2.5e-1", -0.25),
        ("1.5e3", 1500.0),
        ("12", 12),
        ("e3", "e3"),
        ("1e", "1e"),
    ],
)
def test_numbers_are_read_in_every_notation(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"a: {text}", encoding="utf-8")
    read = read_yaml(path).data["a"]
    assert read == value
    assert type(read) is type(value)


def test_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    document = read_yaml(path)
    assert document.data == {"a": 1, "b": 2}
    assert document.line(["b"]) == 2


def test_line_of_an_unknown_entry_is_that_of_the_enclosing_entry(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# head\na:\n  - b: 1\n    c: 2\n  - d: 3\n7: x\n", encoding="utf-8")
    document = read_yaml(path)
    assert document.line(["a", 0, "c"]) == 4
    assert document.line(["a", 1]) == 5
    assert document.line(["a", 1, "unknown", "deeper"]) == 5
    assert document.line([7]) == 6
    assert document.line(["unknown"]) == 1


def test_error_contains_file_line_and_message(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb: 2\n", encoding="utf-8")
    error = read_yaml(path).error("is odd", ["b"])
    assert str(error) == f"{path}:2: is odd"
    assert (error.message, error.file, error.line) == ("is odd", path, 2)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("sclae", ["scale", "fraction"], " (did you mean 'scale'?)"),
        ("tau_end", ["temperature.tau_end", "seed"], " (did you mean 'temperature.tau_end'?)"),
        ("xyz", ["b", "a"], " (known: a, b)"),
        ("gamma_end", ["temperature.tau_end", "optimizer.lr"], " (known: optimizer.lr, temperature.tau_end)"),
        ("optimizer.tau_end", ["temperature.tau_end", "optimizer.lr"], " (did you mean 'temperature.tau_end'?)"),
        ("geometry/mean_r1", ["retrieval/mean_r1", "geometry/gap"], " (did you mean 'retrieval/mean_r1'?)"),
        ("geometry/w3", ["uniformity/w2", "geometry/gap"], " (known: geometry/gap, uniformity/w2)"),
        ("geometry/gpa", ["uniformity/gap", "geometry/gap"], " (did you mean 'geometry/gap'?)"),
        ("top1", ["probe/top1", "geometry/gap"], " (did you mean 'probe/top1'?)"),
        ("temp", ["temp.yaml", "swap.yaml"], " (did you mean 'temp.yaml'?)"),
        ("nonsense.yaml", ["temp.yaml", "swap.yaml"], " (known: swap.yaml, temp.yaml)"),
        ("xyz", [], ""),
        ("xyz", [f"name{number}" for number in range(13)], ""),
        (3, ["a"], " (known: a)"),
    ],
)
def test_hint_contains_the_nearest_name_or_a_few_known_names(name: object, known: list[str], hint: str) -> None:
    assert did_you_mean(name, known) == hint


def test_hint_for_long_names_is_skipped_quickly() -> None:
    names = [f"{number:0200d}" for number in range(50_000)]
    started = time.process_time()
    assert did_you_mean("1" * 200, names) == did_you_mean("x" * 1_000_000, names[:20]) == ""
    assert time.process_time() - started < 2


WRONG = [
    None,
    [],
    {},
    [1],
    {"a": 1},
    {1: 1},
    "",
    "x",
    "A",
    "9" * 5000,
    b"\xff",
    True,
    0.5,
    math.nan,
    -1e300,
    1e300,
    10**30,
]


def _with_inner(schema: type[BaseModel]) -> list[type[BaseModel]]:
    """A schema and all nested schemas."""
    inner = [each for field in schema.model_fields.values() if (each := _schema_in(field.annotation))]
    return [schema, *(one for each in inner for one in _with_inner(each))]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "schema", [*_with_inner(SweepConfig), SpaceFile, ParameterEntry], ids=lambda one: getattr(one, "__name__", None)
)
def test_every_pydantic_error_has_a_message_of_gaptune(schema: type[BaseModel], strict: bool) -> None:
    types = set()
    for name in schema.model_fields:
        for value in WRONG:
            try:
                schema.model_validate({name: value}, strict=strict)
            except ValidationError as error:
                for one in error.errors():
                    types.add(one["type"])
                    if one["type"] not in ("missing", "extra_forbidden", "value_error"):  # formatted separately
                        assert _EXPECTED[one["type"]].format(**one.get("ctx", {}))
    assert types


# --- random content ---

WORDS = [
    *(
        "params",
        "points_to_evaluate",
        "grid",
        "objectives",
        "choice",
        "uniform",
        "log_uniform",
        "integer",
        "when",
        "step",
        "log",
    ),
    *("temperature.schedule", "swap.kind", "method", "metric", "reference", "ideal", "search", "trials", "evaluate"),
    *(
        "data",
        "mix",
        "tasks",
        "constant",
        "hard",
        "FLT",
        "geometry/gap",
        "retrieval/mean_r1",
        "<<",
        "*a",
        "&a x",
        "!!int 3",
    ),
    *(
        "null",
        "true",
        "~",
        "-1",
        "0",
        "0.1",
        "1e-3",
        "1e400",
        ".inf",
        ".nan",
        "9" * 30,
        "2024-01-01",
        "0x1F",
        "''",
        "a\u2028b",
    ),
]
SCALARS = st.sampled_from(WORDS) | st.sampled_from(sorted(parameter_fields())) | st.text(max_size=5)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=4),
    max_leaves=15,
)
SPACES = st.fixed_dictionaries(
    {"params": st.dictionaries(st.sampled_from(sorted(parameter_fields())) | SCALARS, TREES, max_size=4)},
    optional={"points_to_evaluate": st.lists(st.dictionaries(SCALARS, TREES, max_size=3), max_size=3), "grid": TREES},
)


def _flow(tree: Any) -> str:
    """Formats a tree in YAML's flow style, without quoting any text."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(_flow, tree)) + "]"
    return str(tree)


CONTENTS = (
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | (TREES | SPACES).map(lambda tree: _flow(tree).encode("utf-8", "surrogatepass"))
    | st.lists(
        st.sampled_from([*WORDS, ":", "- ", "\n", "  ", "{", "}", "[", "]", ",", "? ", "#", "'", '"', "|", "%", "\t"]),
        max_size=40,
    ).map(lambda parts: "".join(parts).encode())
)


@pytest.mark.parametrize("load", [load_space, load_sweep_config])
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENTS)
def test_random_content_is_read_or_refused_in_one_line(
    tmp_path: Path, load: Callable[[Path], Any], content: bytes
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    started = time.process_time()
    refused = ""
    try:
        load(path)
    except UserError as error:
        refused = str(error)
    assert len(refused.splitlines()) <= 1
    assert time.process_time() - started < 5

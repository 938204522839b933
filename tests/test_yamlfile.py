from __future__ import annotations

from pathlib import Path

import pytest

from gaptune.errors import UserError, did_you_mean
from gaptune.yamlfile import read_yaml

BROKEN: dict[str, tuple[bytes, int | None, str]] = {
    "empty": (b"", 1, "is empty; expected a mapping"),
    "only comments": (b"# nothing\n\n", 1, "is empty"),
    "list at the top": (b"- a\n- b\n", 1, "has a list at its top"),
    "text at the top": (b"just words\n", 1, "has a str at its top"),
    "tab": (b"a:\n\tb: 1\n", 2, "cannot start any token"),
    "unclosed bracket": (b"a: [1, 2\nb: 3\n", 2, "not valid YAML"),
    "unclosed quote": (b'a: "x\nb: 3\n', 3, "not valid YAML"),
    "key twice": (b"a: 1\nb: 2\na: 3\n", 3, "'a' stands here twice (first on line 1)"),
    "key twice, deep": (b"a:\n  - b: 1\n    b: 2\n", 3, "'b' stands here twice (first on line 2)"),
    "two documents": (b"a: 1\n---\nb: 2\n", 2, "not valid YAML"),
    "list as a key": (b"a: 1\n? [1, 2]\n: 3\n", 2, "not valid YAML"),
    "unknown alias": (b"a: 1\nb: *c\n", 2, "undefined alias"),
    "unknown tag": (b"a: 1\nb: !!python/object:os.system {}\n", 2, "not valid YAML"),
    "impossible date": (b"a: 2024-13-45\n", None, "not valid YAML"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\x00", None, "cannot be read"),
    "zero bytes": (b"a: \x00\x00\n", None, "not valid YAML: unacceptable character"),
    "UTF-16": ("a: 1".encode("utf-16"), None, "cannot be read"),
    "alias inside its anchor": (b"a: &x\n  b: *x\n", None, "inside its own anchor"),
    "bottomless": (b"a: " + b"[" * 5000, None, "nested too deeply"),
}


@pytest.mark.parametrize(("content", "line", "gist"), BROKEN.values(), ids=BROKEN)
def test_bad_file_is_one_line_that_says_where_and_what(
    tmp_path: Path, content: bytes, line: int | None, gist: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: "), message
    assert gist in message
    assert "\n" not in message


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "temp.yaml").write_text("a: 1", encoding="utf-8")
    with pytest.raises(UserError, match=r"no such file: .*tmep\.yaml \(did you mean '.*temp\.yaml'\?\)"):
        read_yaml(tmp_path / "tmep.yaml")


def test_missing_folder_is_said_without_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file: .*a\.yaml$"):
        read_yaml(tmp_path / "nowhere" / "a.yaml")


def test_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)


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
def test_numbers_are_what_they_look_like(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"a: {text}", encoding="utf-8")
    read = read_yaml(path).data["a"]
    assert read == value
    assert type(read) is type(value)


def test_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    document = read_yaml(path)
    assert document.data == {"a": 1, "b": 2}
    assert document.line(["b"]) == 2


def test_lines_lead_to_every_entry_and_fall_back_to_what_is_around_it(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# head\na:\n  - b: 1\n    c: 2\n  - d: 3\n7: x\n", encoding="utf-8")
    document = read_yaml(path)
    assert document.line(["a", 0, "c"]) == 4
    assert document.line(["a", 1]) == 5
    assert document.line(["a", 1, "unknown", "deeper"]) == 5
    assert document.line([7]) == 6
    assert document.line(["unknown"]) == 1


def test_error_tells_file_and_line_and_keeps_the_message(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb: 2\n", encoding="utf-8")
    fault = read_yaml(path).error("is odd", ["b"])
    assert str(fault) == f"{path}:2: is odd"
    assert (fault.message, fault.file, fault.line) == ("is odd", path, 2)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("sclae", ["scale", "share"], " (did you mean 'scale'?)"),
        ("tau_end", ["temperature.tau_end", "seed"], " (did you mean 'temperature.tau_end'?)"),
        ("xyz", ["b", "a"], " (known: a, b)"),
        ("gamma_end", ["temperature.tau_end", "optimizer.lr"], " (known: optimizer.lr, temperature.tau_end)"),
        ("optimizer.tau_end", ["temperature.tau_end", "optimizer.lr"], " (did you mean 'temperature.tau_end'?)"),
        ("geometry/mean_r1", ["retrieval/mean_r1", "geometry/gap"], " (did you mean 'retrieval/mean_r1'?)"),
        ("geometry/w3", ["uniformity/w2", "geometry/gap"], " (known: geometry/gap, uniformity/w2)"),
        ("geometry/gpa", ["uniformity/gap", "geometry/gap"], " (did you mean 'geometry/gap'?)"),
        ("accuracy", ["probe/accuracy", "geometry/gap"], " (did you mean 'probe/accuracy'?)"),
        ("temp", ["temp.yaml", "swap.yaml"], " (did you mean 'temp.yaml'?)"),
        ("nonsense.yaml", ["temp.yaml", "swap.yaml"], " (known: swap.yaml, temp.yaml)"),
        ("xyz", [], ""),
        ("xyz", [f"name{number}" for number in range(13)], ""),
        (3, ["a"], " (known: a)"),
    ],
)
def test_hint_names_the_nearest_or_all_when_there_are_few(name: object, known: list[str], hint: str) -> None:
    assert did_you_mean(name, known) == hint

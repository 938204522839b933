"""Places to write to."""

from pathlib import Path

import pytest

from gaptune.errors import UserError
from gaptune.storage.paths import check_file, check_folder, local_path


def test_local_path_expands_a_tilde_and_refuses_a_url(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert local_path("~/runs") == Path("/home/me/runs")
    assert local_path("a/~b") == Path("a/~b")
    for text in ("s3://bucket/x", "file:///x", "~nobody-of-that-name/x"):
        with pytest.raises(UserError):
            local_path(text)


def test_writable_folder_is_unchanged_by_the_check(tmp_path):
    assert check_folder(tmp_path / "a" / "b", "--results") > 0
    assert check_folder(tmp_path, "--results") > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["/proc/none", "/dev/null/x", "file/x", "link", "link/x", "a\0b"])
def test_folder_that_is_not_writable_is_refused(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("link").symlink_to("/nowhere/x")
    with pytest.raises(UserError, match="--results: cannot write to"):
        check_folder(Path(folder), "--results")
    assert sorted(Path().iterdir()) == [Path("file"), Path("link")]


@pytest.mark.parametrize(
    ("path", "why"), [("x.txt", "ends with .png or .svg"), ("no/x.png", "no folder no"), ("f.png", "is a folder")]
)
def test_file_that_cannot_be_written_is_refused(tmp_path, monkeypatch, path, why):
    monkeypatch.chdir(tmp_path)
    Path("f.png").mkdir()
    with pytest.raises(UserError, match=why):
        check_file(Path(path), "--plot", (".png", ".svg"))


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("~/runs", "contains an unexpanded ~"),
        ("n" * 256, "256 bytes, at most 255"),
        ("é" * 128, "256 bytes, at most 255"),
        ("/".join(["d" * 200] * 20), "path of d+ is too long: "),
    ],
)
def test_folder_with_an_invalid_path_is_refused(tmp_path, folder, why):
    with pytest.raises(UserError, match=f"--results: .*{why}"):
        check_folder(tmp_path / folder, "--results")
    assert list(tmp_path.iterdir()) == []

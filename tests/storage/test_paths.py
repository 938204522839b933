"""Places to write to."""

import errno
import os
from pathlib import Path

import pytest

from gaptune.errors import UserError
from gaptune.storage.atomic import written_whole
from gaptune.storage.paths import check_file, check_folder, local_path


def test_a_tilde_is_home_and_a_url_is_no_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert local_path("~/runs") == Path("/home/me/runs")
    assert local_path("a/~b") == Path("a/~b")
    for text in ("s3://bucket/x", "file:///x", "~nobody-of-that-name/x"):
        with pytest.raises(UserError):
            local_path(text)


def test_a_folder_that_can_be_written_to_is_left_as_it_was(tmp_path):
    check_folder(tmp_path / "a" / "b", "--results")
    check_folder(tmp_path, "--results")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["/proc/none", "/dev/null/x", "file/x", "link", "link/x", "n" * 300, "a\0b"])
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("link").symlink_to("/nowhere/x")
    with pytest.raises(UserError, match="--results: cannot write to"):
        check_folder(Path(folder), "--results")
    assert sorted(Path().iterdir()) == [Path("file"), Path("link")]


@pytest.mark.parametrize(
    ("path", "why"), [("x.txt", "ends with .png or .svg"), ("no/x.png", "no folder no"), ("f.png", "is a folder")]
)
def test_a_file_that_cannot_be_written_is_refused(tmp_path, monkeypatch, path, why):
    monkeypatch.chdir(tmp_path)
    Path("f.png").mkdir()
    with pytest.raises(UserError, match=why):
        check_file(Path(path), "--plot", (".png", ".svg"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.csv"
    with written_whole(path) as place:
        assert place.suffix == ".csv"
        place.write_text("one")
        assert not path.exists()
    with pytest.raises(UserError, match="input/output error"):
        _write_half(path, errno.EIO)
    with pytest.raises(OSError, match="No space left"):  # nobody's bad input: exit code 1
        _write_half(path, errno.ENOSPC)
    assert [file.name for file in tmp_path.iterdir()] == ["x.csv"]
    assert path.read_text() == "one"


def _write_half(path, number):
    with written_whole(path) as place:
        place.write_text("half")
        raise OSError(number, os.strerror(number))

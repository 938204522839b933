"""Files are written whole or not at all, whatever goes wrong."""

import errno
import os
import threading
import time

import pytest

from gaptune.errors import UserError
from gaptune.storage.atomic import remove_stale, replacing, written_whole


def names(folder):
    return [file.name for file in folder.iterdir()]


@pytest.mark.parametrize("write", [replacing, written_whole])
def test_file_keeps_its_old_content_until_the_new_is_complete(tmp_path, write):
    path = tmp_path / "x.csv"
    path.write_text("old")
    with write(path) as place:
        place.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["x.csv"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError(), OSError(errno.ENOSPC, "full")])
def test_file_is_unchanged_when_its_writer_fails(tmp_path, error):
    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(type(error)):
        _write_half(replacing, path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.csv"]


def test_file_is_on_disk_before_it_is_renamed(tmp_path, monkeypatch):
    path, synced = tmp_path / "x.csv", []
    plain = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(path.exists()) or plain(file))
    with replacing(path) as place:
        place.write_text("new")
    assert synced == [False]


def test_two_writers_use_different_temporary_names(tmp_path):
    with replacing(tmp_path / "x") as one, replacing(tmp_path / "x") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "x").read_text() == "one"


def test_file_with_a_long_name_can_be_written(tmp_path):
    path = tmp_path / f"{'n' * 251}.png"
    with written_whole(path) as place:
        assert place.suffix == ".png"  # plots are drawn in the format that the ending names
        place.write_text("new")
    assert path.read_text() == "new"


def test_write_error_is_a_user_error_unless_the_disk_is_full(tmp_path):
    path = tmp_path / "x.csv"
    with pytest.raises(UserError, match=r"cannot write .*x\.csv: input/output error"):
        _write_half(written_whole, path, OSError(errno.EIO, os.strerror(errno.EIO)))
    with pytest.raises(OSError, match="No space left"):  # exit code 1
        _write_half(written_whole, path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert names(tmp_path) == []


def test_symbolic_link_is_kept_and_its_target_replaced(tmp_path):
    link, target = tmp_path / "link.csv", tmp_path / "target.csv"
    link.symlink_to(target)
    with written_whole(link) as place:
        place.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_pipe_is_kept_and_receives_the_content(tmp_path):
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    with written_whole(path) as place:
        place.write_text("new")
    reader.join(10)
    assert read == ["new"]
    assert path.is_fifo()


def test_temporary_files_of_killed_writers_are_removed_after_an_hour(tmp_path):
    old, fresh, legacy, other = (tmp_path / name for name in (".x.1-a.partial", ".x.2-b.partial", "x.partial", "x"))
    for path in (old, fresh, legacy, other):
        path.touch()
    for path in (old, legacy, other):
        os.utime(path, (time.time() - 7200,) * 2)
    remove_stale(tmp_path)
    assert sorted(names(tmp_path)) == [fresh.name, other.name]


def _write_half(write, path, error):
    with write(path) as place:
        place.write_text("half")
        raise error

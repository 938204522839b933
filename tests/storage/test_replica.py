"""A trial's checkpoints in a storage and their copies on a node that may share its home with others."""

import os
import platform
import time

import pytest

from gaptune.storage.replica import Copies


@pytest.fixture
def far(tmp_path, monkeypatch):
    """The trial's folder in the storage, with a checkpoint after epoch 1."""
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "far" / "0000"
    folder.mkdir(parents=True)
    for name in ("epoch-0001.optimizer.pt", "epoch-0001.pt"):
        (folder / name).write_bytes(b"one")
    return folder


def copies(far):
    return Copies(f"file://{far}")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_two_workers_use_different_folders(far):
    first, second = copies(far), copies(far)
    first.pull()
    (second.pull() / "epoch-0001.pt").write_bytes(b"changed")
    second.remove()
    assert (first.folder / "epoch-0001.pt").read_bytes() == b"one"


def test_push_copies_new_checkpoints_and_deletes_superseded_ones_only(far):
    mine = copies(far)
    here = mine.pull()
    (far / "trial.json").write_text("{}")  # put there by somebody else
    for name in ("epoch-0001.optimizer.pt", "epoch-0001.pt"):
        (here / name).unlink()
    for name in ("epoch-0002.optimizer.pt", "epoch-0002.pt", "epoch-0003.pt.1-a.partial"):
        (here / name).write_bytes(b"two")
    mine.push()
    assert names(far) == ["epoch-0002.optimizer.pt", "epoch-0002.pt", "trial.json"]


def test_rewritten_checkpoint_replaces_the_damaged_one_in_the_storage(far):
    (far / "epoch-0001.pt").write_bytes(b"bad")
    mine = copies(far)
    here = mine.pull()
    (here / "epoch-0001.pt").rename(here / "epoch-0001.pt.damaged")
    (here / "epoch-0001.pt").write_bytes(b"one")
    mine.push()
    assert (far / "epoch-0001.pt").read_bytes() == b"one"
    assert (far / "epoch-0001.pt.damaged").read_bytes() == b"bad"


def test_file_with_other_content_but_same_name_size_and_time_is_copied(far):
    mine = copies(far)
    file = mine.pull() / "epoch-0001.pt"
    times = file.stat()
    (file.parent / "new").write_bytes(b"two")
    (file.parent / "new").replace(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    mine.push()
    assert (far / "epoch-0001.pt").read_bytes() == b"two"


def test_file_with_only_a_new_time_is_not_copied(far):
    mine = copies(far)
    here = mine.pull()
    before = (far / "epoch-0001.pt").stat()
    os.utime(here / "epoch-0001.pt")
    mine.push()
    assert (far / "epoch-0001.pt").stat().st_ino == before.st_ino


@pytest.mark.parametrize("content", [None, b"", b"o", b"one and more"])
def test_missing_or_truncated_copy_is_replaced_by_the_local_file(far, content):
    mine = copies(far)
    mine.pull()
    (far / "epoch-0001.pt").unlink()
    if content is not None:
        (far / "epoch-0001.pt").write_bytes(content)
    mine.push()
    assert (far / "epoch-0001.pt").read_bytes() == b"one"


def test_push_succeeds_after_the_driver_has_deleted_a_checkpoint(far):
    mine = copies(far)
    here = mine.pull()
    for path in (far / "epoch-0001.pt", here / "epoch-0001.pt"):
        path.unlink()
    (here / "epoch-0002.pt").write_bytes(b"two")
    mine.push()
    assert names(far) == ["epoch-0001.optimizer.pt", "epoch-0002.pt"]


def test_copies_of_dead_processes_are_removed_and_others_kept(far, tmp_path):
    cache = tmp_path / "cache" / "trials"
    host, last_week = platform.node(), time.time() - 8 * 86400
    gone = [f"{host}-4194304-aaaaaaaa", "elsewhere-1-bbbbbbbb", "4711"]  # a process id that cannot be; two old ones
    kept = [f"{host}-{os.getpid()}-cccccccc", "elsewhere-2-dddddddd"]
    for name in [*gone, *kept]:
        (cache / name).mkdir(parents=True)
    for name in [*gone[1:], kept[0]]:
        os.utime(cache / name, (last_week, last_week))
    copies(far)
    assert names(cache) == sorted(kept)

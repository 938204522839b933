"""Stores by URL: fetched once, checked by hash."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gaptune.data.open import open_store
from gaptune.data.scenes import make_scenes
from gaptune.data.store import download
from gaptune.errors import UserError
from gaptune.storage.folder import Folder


@pytest.fixture
def far(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path / "cache"))
    return make_scenes(tmp_path / "far", {"train": 40, "val": 8, "probe_train": 10, "probe_test": 5}).path


def test_store_opened_by_url_equals_the_local_store(far):
    here, there = open_store(f"file://{far}"), open_store(far)
    assert here.meta == there.meta
    assert here.path != far
    rows = np.arange(8)
    assert (here.split("val").gather(rows) == there.split("val").gather(rows)).all()


def test_store_is_downloaded_once(far):
    first = open_store(f"file://{far}")
    before = (first.path / "train.arrow").stat()
    (far / "train.arrow").unlink()  # a second fetch would fail
    second = open_store(f"file://{far}")
    assert second.path == first.path
    assert (second.path / "train.arrow").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.whole
def test_concurrent_processes_download_a_store_once(far, tmp_path):
    code = f"from gaptune.data.open import open_store; print(open_store('file://{far}').path.stat().st_ino)"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in running}) == 1
    assert all(process.returncode == 0 for process in running)
    assert [path.suffix for path in (tmp_path / "cache" / "stores").iterdir() if path.is_dir()] == [""]


def test_changed_store_is_downloaded_to_a_new_path(far, tmp_path):
    first = open_store(f"file://{far}").path
    other = make_scenes(tmp_path / "other", {"train": 41, "val": 8, "probe_train": 10, "probe_test": 5}).path
    assert open_store(f"file://{other}").path != first


def damage(far, what):
    meta = json.loads((far / "store.json").read_text())
    if what == "a byte":
        content = bytearray((far / "train.arrow").read_bytes())
        content[len(content) // 2] ^= 1
        (far / "train.arrow").write_bytes(content)
    elif what == "a split":
        (far / "val.arrow").unlink()
    elif what == "the hash":
        (far / "store.json").write_text(json.dumps(meta | {"content_hash": "0" * 64}))
    elif what == "the description":
        (far / "store.json").write_text("[]")
    else:
        (far / "store.json").unlink()


@pytest.mark.parametrize("what", ["a byte", "a split", "the hash", "the description", "all"])
def test_damaged_store_is_refused_and_not_cached(far, tmp_path, what):
    damage(far, what)
    with pytest.raises(UserError):
        open_store(f"file://{far}")
    stores = tmp_path / "cache" / "stores"
    assert [path for path in stores.glob("*") if path.is_dir()] == []


@pytest.fixture
def asked(monkeypatch):
    """The files, with their positions, from which blocks were asked for."""
    found, whole = [], Folder.blocks

    def blocks(self, name, start=0):
        found.append((name, start))
        return whole(self, name, start)

    monkeypatch.setattr(Folder, "blocks", blocks)
    return found


def interrupt(url, most, monkeypatch):
    """Opens a store whose storage cannot be reached after a number of bytes."""
    whole = Folder.blocks

    def blocks(self, name, start=0):
        yield b"".join(whole(self, name, start))[:most]
        raise ConnectionResetError("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(download, "_WAITS_S", ())
        patch.setattr(Folder, "blocks", blocks)
        with pytest.raises(UserError, match=r"cannot copy file://.*: the connection was lost"):
            open_store(url)


def test_interrupted_copy_is_continued_where_it_ended(far, tmp_path, monkeypatch, asked):
    half = (far / "train.arrow").stat().st_size // 2
    interrupt(f"file://{far}", half, monkeypatch)
    [partial] = (tmp_path / "cache" / "stores").glob("*.partial")
    assert (partial / "train.arrow.partial").stat().st_size == half
    asked.clear()
    open_store(f"file://{far}").verify()
    assert asked[0] == ("train.arrow", half)
    assert not partial.exists()


def test_copy_whose_end_is_damaged_is_made_anew(far, tmp_path, monkeypatch, asked):
    half = (far / "train.arrow").stat().st_size // 2
    interrupt(f"file://{far}", half, monkeypatch)
    [partial] = (tmp_path / "cache" / "stores").glob("*.partial/train.arrow.partial")
    with partial.open("r+b") as file:  # a machine that lost its power
        file.seek(-100, 2)
        file.write(bytes(100))
    asked.clear()
    open_store(f"file://{far}").verify()
    assert asked[:2] == [("train.arrow", half), ("train.arrow", 0)]


def test_copy_continues_after_an_error_that_passes(far, monkeypatch):
    whole, failures = Folder.blocks, [1, 2]

    def blocks(self, name, start=0):
        if failures:
            failures.pop()
            raise TimeoutError("no answer")
        return whole(self, name, start)

    monkeypatch.setattr(download, "_WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(Folder, "blocks", blocks)
    open_store(f"file://{far}").verify()


def test_copy_without_disk_space_is_refused_before_it_starts(far, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr("gaptune.storage.cache.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"not enough disk space for file://.*: it takes .*, and 1.05 MB are free in"):
        open_store(f"file://{far}")
    assert not list((tmp_path / "cache" / "stores").glob("*/*"))

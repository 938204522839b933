"""Stores by URL: fetched once, checked by hash."""

import json
import subprocess
import sys

import numpy as np
import pytest

from gaptune.data.open import open_store
from gaptune.data.scenes import make_scenes
from gaptune.errors import UserError


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

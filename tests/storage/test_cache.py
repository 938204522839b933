"""The cache: what is old goes, what is in use stays."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from gaptune.errors import UserError
from gaptune.storage import cache
from gaptune.storage.cache import Entry, entries, free_space, locked, removable, remove, use


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_used", {})
    return tmp_path


def make(folder, name, *, kind="stores", size=1000, used=1000.0):
    path = folder / kind / name
    path.mkdir(parents=True)
    (path / "train.arrow").write_bytes(bytes(size))
    (path / "store.json").write_text(json.dumps({"name": f"named {name}"}))
    os.utime(path, (used, used))
    return path


def names(found):
    return [entry.path.name for entry in found]


def test_entries_are_those_of_stores_by_last_use(folder):
    make(folder, "b", used=300)
    make(folder, "a", used=200)
    make(folder, "c", kind="built", used=100)
    make(folder, "other", kind="trials")
    assert names(entries()) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("limits", "gone"),
    [
        ({}, ""),
        ({"most": 3000}, ""),
        ({"most": 2000}, "a"),
        ({"most": 0}, "abc"),
        ({"before": 250.0}, "ab"),
        ({"most": 2000, "before": 150.0}, "a"),
    ],
)
def test_what_was_not_used_for_the_longest_time_goes_first(folder, limits, gone):
    found = [Entry(folder / name, 1000, used, False) for name, used in (("a", 100.0), ("b", 200.0), ("c", 300.0))]
    assert "".join(names(removable(found, **limits))) == gone


def test_what_is_in_use_is_neither_chosen_nor_removed(folder):
    path = make(folder, "a")
    use(path)
    [entry] = entries()
    assert entry.in_use
    assert removable([entry], most=0) == []
    assert not remove(entry)
    assert path.exists()


def test_what_another_process_uses_is_kept_until_the_process_has_ended(folder):
    path = make(folder, "a")
    code = (
        f"from pathlib import Path; from gaptune.storage.cache import use; use(Path({str(path)!r})); print(1); input()"
    )
    user = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        user.stdout.readline()
        [entry] = entries()
        assert entry.in_use
        assert not remove(entry)
    finally:
        user.kill()
        user.communicate()
    [entry] = entries()
    assert not entry.in_use
    assert remove(entry)
    assert not path.exists()


def test_copy_that_is_being_made_is_in_use(folder):
    path = make(folder, "a.partial")
    with locked(folder / "stores" / "a"):
        [entry] = entries()
        assert entry.unfinished
        assert entry.in_use
        assert not remove(entry)
    [entry] = entries()
    assert remove(entry)
    assert not path.exists()


def test_use_renews_the_time_of_last_use(folder):
    path = make(folder, "a", used=100.0)
    use(path)
    assert path.stat().st_mtime > 1e9


def test_copies_free_space_for_a_new_one_as_far_as_needed(folder, monkeypatch):
    first, second, built = make(folder, "a", used=100), make(folder, "b", used=200), make(folder, "c", kind="built")

    whole = shutil.disk_usage(folder)

    def usage(_):
        return whole._replace(free=cache._SPARE + 1000 * (2 - first.exists() - second.exists()))

    monkeypatch.setattr(cache.shutil, "disk_usage", usage)
    free_space(1000, "a store")
    assert [path.exists() for path in (first, second, built)] == [False, True, True]
    with pytest.raises(UserError, match="not enough disk space for a store: it takes 9 kB"):
        free_space(9000, "a store")
    assert built.exists()

"""``gaptune data cache``, as a user types it."""

import json

import pytest
from click.testing import CliRunner

from gaptune.cli import cli
from gaptune.data.open import open_store
from gaptune.data.scenes import make_scenes


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of a store by URL in an otherwise empty cache; no process uses it."""
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("gaptune.data.store.download.use", lambda path: None)
    far = make_scenes(tmp_path / "far", {"train": 8, "val": 4, "probe_train": 4, "probe_test": 4}).path
    return open_store(f"file://{far}").path


def ask(*options, code=0):
    done = CliRunner().invoke(cli, ["data", "cache", *options])
    assert done.exit_code == code, done.output
    return done.output


def test_nothing_is_removed_without_yes(copied):
    assert "scenes" in ask()
    output = ask("--older-than", "0")
    assert "to remove" in output
    assert "nothing was removed; the same command with --yes frees" in output
    assert copied.exists()


@pytest.mark.parametrize("limit", [("--older-than", "0"), ("--max-size", "1kB")])
def test_old_stores_are_removed(copied, limit):
    output = ask(*limit, "--yes")
    assert "removed" in output
    assert not copied.exists()
    assert "no data stores in" in ask()


@pytest.mark.parametrize("limit", [("--older-than", "1"), ("--max-size", "1 TB"), ("--max-size", "1.5gb")])
def test_what_is_within_the_limit_stays(copied, limit):
    ask(*limit, "--yes")
    assert copied.exists()


def test_json_names_each_store(copied):
    [store] = json.loads(ask("--json", "--older-than", "0", "--yes"))["stores"]
    assert (store["path"], store["removed"]) == (str(copied), True)
    assert store["bytes"] > 0


@pytest.mark.parametrize("size", ["much", "-1GB", "5 apples", ""])
def test_what_is_no_size_is_refused(copied, size):
    assert "is not a size such as 500MB or 50GB" in ask("--max-size", size, code=2)

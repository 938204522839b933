"""The ledger in a sweep's storage."""

import time

import pytest
from support import Stage

from gaptune.engine.backup import Backup, newer_ledger, stored_ledger
from gaptune.errors import UserError
from gaptune.ledger import parse_events
from gaptune.remote import Folder


def wait_for(what):
    deadline = time.monotonic() + 10
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert what()


def test_it_follows_as_trials_end(tmp_path):
    place, said = Folder(f"file://{tmp_path}/far/s"), []
    backup = Backup(place, tmp_path / "s", said.append)
    stage = Stage(tmp_path / "s", listeners=(backup,))
    stage.finish(stage.conductor.next_trial().number)
    wait_for(lambda: parse_events(stored_ledger(place))[0][-1:])
    wait_for(lambda: parse_events(stored_ledger(place))[0][-1]["event"] == "end")
    stage.conductor.close(None)
    assert backup.close()
    assert stored_ledger(place) == (tmp_path / "s/ledger.jsonl").read_bytes()
    assert said == []


def test_a_storage_that_refuses_is_named_once_and_caught_up_with(tmp_path, monkeypatch):
    monkeypatch.setattr("gaptune.engine.backup._AGAIN_S", 0.05)
    (tmp_path / "far").write_text("a file where the folder should be")
    said = []
    backup = Backup(Folder(f"file://{tmp_path}/far/s"), tmp_path / "s", said.append)
    stage = Stage(tmp_path / "s", listeners=(backup,))
    stage.finish(stage.conductor.next_trial().number)
    wait_for(lambda: said)
    time.sleep(0.3)
    assert len(said) == 1
    (tmp_path / "far").unlink()
    wait_for(lambda: len(said) == 2)
    assert backup.close()
    assert newer_ledger(Folder(f"file://{tmp_path}/far/s"), tmp_path / "s") is None


def test_the_ledger_that_knows_more_is_taken(tmp_path):
    stage = Stage(tmp_path / "s")
    stage.finish(stage.conductor.next_trial().number)
    place, file = Folder(f"file://{tmp_path}/far"), tmp_path / "s" / "ledger.jsonl"
    assert newer_ledger(place, tmp_path / "s") is None
    place.put(file, "ledger.jsonl")
    whole = file.read_bytes()
    assert newer_ledger(place, tmp_path / "s") is None
    file.write_bytes(whole[: len(whole) // 2])  # torn: what is whole of it is the beginning of the other
    assert newer_ledger(place, tmp_path / "s") == whole
    file.unlink()
    assert newer_ledger(place, tmp_path / "s") == whole


def test_ledgers_that_have_gone_different_ways_are_refused(tmp_path):
    for folder in ("s", "t"):
        stage = Stage(tmp_path / folder)
        stage.finish(stage.conductor.next_trial().number, recall=0.1 if folder == "s" else 0.2)
    place = Folder(f"file://{tmp_path}/t")
    with pytest.raises(UserError, match="diverged"):
        newer_ledger(place, tmp_path / "s")

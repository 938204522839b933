"""The ledger in a sweep's storage."""

import time

import pytest
from support import Stage, sweep_config

from gaptune.errors import UserError
from gaptune.ledger import parse_events
from gaptune.ledger.backup import Backup, fetch_ledger, newer_ledger, stored_ledger
from gaptune.storage.folder import Folder


def wait_for(what):
    deadline = time.monotonic() + 10
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert what()


def test_the_backup_is_updated_as_trials_end(tmp_path):
    place, said = Folder(f"file://{tmp_path}/far/s"), []
    backup = Backup(place, tmp_path / "s", said.append)
    stage = Stage(tmp_path / "s", listeners=(backup,))
    stage.finish(stage.orchestrator.next_trial().number)
    wait_for(lambda: parse_events(stored_ledger(place))[0][-1:])
    wait_for(lambda: parse_events(stored_ledger(place))[0][-1]["event"] == "end")
    stage.orchestrator.close(None)
    assert backup.close()
    assert stored_ledger(place) == (tmp_path / "s/ledger.jsonl").read_bytes()
    assert said == []


def test_a_storage_that_fails_is_reported_once_and_updated_when_it_works(tmp_path, monkeypatch):
    monkeypatch.setattr("gaptune.ledger.backup._AGAIN_S", 0.05)
    (tmp_path / "far").write_text("a file where the folder should be")
    said = []
    backup = Backup(Folder(f"file://{tmp_path}/far/s"), tmp_path / "s", said.append)
    stage = Stage(tmp_path / "s", listeners=(backup,))
    stage.finish(stage.orchestrator.next_trial().number)
    wait_for(lambda: said)
    time.sleep(0.3)
    assert len(said) == 1
    (tmp_path / "far").unlink()
    wait_for(lambda: len(said) == 2)
    assert backup.close()
    assert newer_ledger(Folder(f"file://{tmp_path}/far/s"), tmp_path / "s") is None


def test_the_longer_ledger_is_taken(tmp_path):
    stage = Stage(tmp_path / "s")
    stage.finish(stage.orchestrator.next_trial().number)
    place, file = Folder(f"file://{tmp_path}/far"), tmp_path / "s" / "ledger.jsonl"
    assert newer_ledger(place, tmp_path / "s") is None
    place.put(file, "ledger.jsonl")
    whole = file.read_bytes()
    assert newer_ledger(place, tmp_path / "s") is None
    file.write_bytes(whole[: len(whole) // 2])  # torn: what is whole of it is the beginning of the other
    assert newer_ledger(place, tmp_path / "s") == whole
    file.unlink()
    assert newer_ledger(place, tmp_path / "s") == whole


def test_ledgers_that_have_diverged_are_refused(tmp_path):
    for folder in ("s", "t"):
        stage = Stage(tmp_path / folder)
        stage.finish(stage.orchestrator.next_trial().number, recall=0.1 if folder == "s" else 0.2)
    place = Folder(f"file://{tmp_path}/t")
    with pytest.raises(UserError, match="diverged"):
        newer_ledger(place, tmp_path / "s")


def filled(folder, trials):
    """A sweep of some finished trials, each of which says a good deal; returns its ledger."""
    stage = Stage(folder, sweep=sweep_config(search={"candidates": trials}), num_candidates=trials)
    while (trial := stage.orchestrator.next_trial()) is not None:
        stage.finish(trial.number, more={f"probe/filling_{i}": 0.5 for i in range(40)})
    stage.ledger.close()
    return folder / "ledger.jsonl"


class Counting(Folder):
    """A storage that counts the bytes that are written to it."""

    written = 0

    def write(self, name, content):
        self.written += len(content)
        super().write(name, content)


def test_a_long_ledger_is_sent_in_parts_each_byte_few_times(tmp_path, monkeypatch):
    monkeypatch.setattr("gaptune.ledger.backup._PART_BYTES", 20_000)
    place = Counting(f"file://{tmp_path}/far/s")
    backup = Backup(place, tmp_path / "s", print)
    stage = Stage(tmp_path / "s", sweep=sweep_config(search={"candidates": 60}), num_candidates=60, listeners=(backup,))
    while (trial := stage.orchestrator.next_trial()) is not None:
        stage.finish(trial.number, more={f"probe/filling_{i}": 0.5 for i in range(40)})
        wait_for(lambda: not backup._news.is_set())
    stage.orchestrator.close(None)
    assert backup.close()
    whole = (tmp_path / "s/ledger.jsonl").read_bytes()
    assert stored_ledger(place) == whole
    assert len(place.names("ledger")) > len(whole) / 25_000
    assert place.written < 8 * len(whole)  # whole each time would be 30 times
    again = Backup(place, tmp_path / "s", print)  # the next driver sends only what is new
    place.written = 0
    again._news.set()
    assert again.close()
    assert place.written <= 20_000


@pytest.mark.parametrize("error", [RuntimeError("no credentials"), KeyError("x"), OSError(5, "gone"), TypeError()])
def test_any_error_of_a_storages_client_is_handled(tmp_path, error):
    class Broken(Folder):
        def write(self, name, content):
            raise error

    said = []
    backup = Backup(Broken(f"file://{tmp_path}/far/s"), tmp_path / "s", said.append)
    stage = Stage(tmp_path / "s", listeners=(backup,))
    stage.finish(stage.orchestrator.next_trial().number)
    wait_for(lambda: said)
    stage.orchestrator.close(None)
    assert not backup.close()
    assert "could not be copied" in said[0]


def test_a_ledger_stored_as_one_file_is_read_and_replaced_by_parts(tmp_path):
    path = filled(tmp_path / "s", 3)
    place = Folder(f"file://{tmp_path}/far/s")
    place.put(path, "ledger.jsonl")
    content = path.read_bytes()
    path.unlink()
    assert newer_ledger(place, tmp_path / "s") == content
    path.write_bytes(content)
    backup = Backup(place, tmp_path / "s", print)
    assert backup.close()
    assert place.names() == []
    assert stored_ledger(place) == content


def test_damaged_local_lines_are_taken_from_the_storage_and_new_ones_are_kept(tmp_path):
    path = filled(tmp_path / "s", 4)
    place, content = Folder(f"file://{tmp_path}/far/s"), path.read_bytes()
    lines = content.splitlines(keepends=True)
    place.write("ledger/000000000000.jsonl", b"".join(lines[:-3]))  # the last copy is a little behind
    path.write_bytes(b"".join([*lines[:4], b"X" + lines[4][1:], *lines[5:]]))
    assert newer_ledger(place, tmp_path / "s") == content
    path.write_bytes(content)
    place.write("ledger/000000000000.jsonl", b"".join([*lines[:4], b"X" + lines[4][1:], *lines[5:]]))
    assert newer_ledger(place, tmp_path / "s") is None
    backup = Backup(place, tmp_path / "s", print)
    assert backup.close()
    assert stored_ledger(place) == content


def test_a_stored_ledger_that_cannot_be_read_is_an_error(tmp_path):
    place = Folder(f"file://{tmp_path}/far/s")
    place.write("ledger/000000000000.jsonl", b"nonsense\n")
    with pytest.raises(UserError, match="Nothing was changed"):
        newer_ledger(place, tmp_path / "s")


def test_a_ledger_is_fetched_from_its_storage_as_it_grows(tmp_path):
    place, mine = Folder(f"file://{tmp_path}/far/s"), tmp_path / "mine" / "s"
    with pytest.raises(UserError, match=r"no sweep 's' in file://.*/far"):
        fetch_ledger(place, mine)
    assert not mine.exists()
    backup = Backup(place, tmp_path / "s", print)
    stage = Stage(tmp_path / "s", listeners=(backup,))
    stage.finish(stage.orchestrator.next_trial().number)
    wait_for(lambda: stored_ledger(place))
    fetch_ledger(place, mine)
    stage.finish(stage.orchestrator.next_trial().number)
    stage.orchestrator.close(None)
    assert backup.close()
    for _ in range(2):
        fetch_ledger(place, mine)
        assert (mine / "ledger.jsonl").read_bytes() == (tmp_path / "s/ledger.jsonl").read_bytes()

"""A damaged ledger: what can be read of it or of the trials' own files is kept, and nothing is given twice."""

import os
import random
import re
import shutil

import pytest
from support import SPACE, header, sweep_config

from gaptune.errors import UserError
from gaptune.ledger import Ledger, State, parse_events, read_events, replay
from gaptune.ledger.opening import open_ledger
from gaptune.ledger.trial_file import TrialFile
from gaptune.search.orchestrator import Orchestrator
from gaptune.search.study import Study
from gaptune.simulation.play import Clock, play

SOAK = os.environ.get("GAPTUNE_SOAK") == "full"
DAMAGES = 5_000 if SOAK else 300
SWEEP = sweep_config(search={"candidates": 8, "seeds": 2}, early_stopping={"method": "asha", "min_fraction": 0.4})


def curve(trial):
    tau = trial.config["temperature.tau_start"]
    return [{"retrieval/mean_r1": min(1.0, tau * epoch), "geometry/gap": 1 - tau} for epoch in (1, 2)]


def run(folder, *, stop_after=None):
    """A driver that trains in virtual time, with the files that workers write; returns its record and what it said."""
    said = []
    with Ledger(folder) as ledger:
        opened = open_ledger(ledger, None, said.append)
        record, clock = opened.record, Clock()
        clock.now = record.updated_at + 1
        first = record.header.event or header(SWEEP) | {"name": folder.name}
        for event in [] if opened.events else [first]:
            ledger.append(event)
            record.apply(event)
        ledger.append({"event": "session", "at": clock.now, "sweep": first})
        orchestrator = Orchestrator.resume(
            opened,
            ledger,
            Study(SPACE, SWEEP, "s"),
            SWEEP,
            num_candidates=8,
            listeners=[Files(folder, record)],
            clock=clock,
        )
        play(orchestrator, curve, clock, workers=3)
        orchestrator.close(None)
    return record, said


class Files:
    """Writes each trial's own file, as its worker would."""

    def __init__(self, folder, record):
        self.folder, self.record, self.files = folder, record, {}

    def __call__(self, event):
        if event["event"] != "report":
            return
        trial = self.record.trials[event["trial"]]
        if trial.number not in self.files:
            told = {"event": "trial", "at": trial.drawn_at, "sweep_id": self.record.header.id}
            told |= {"trial": trial.number, "candidate": trial.candidate, "params": trial.params}
            told |= {"config": trial.config, "method": trial.method}
            self.files[trial.number] = TrialFile(self.folder / "trials" / f"{trial.number:04d}", told)
        self.files[trial.number].report(event["at"], event["epoch"], event["step"], event["metrics"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep with damages to come; its folder is copied, never changed."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    run(folder)
    return folder


def damage(content: bytes, rng: random.Random) -> bytes:
    """One to three damages of the kinds that disks, editors, copies and merges make."""
    for _ in range(rng.randint(1, 3)):
        lines, at = content.splitlines(keepends=True), rng.randrange(max(1, len(content)))
        if not lines:
            return content
        here = rng.randrange(len(lines))
        kind = rng.choice(["flip", "cut", "insert", "duplicate", "reorder", "crlf", "truncate", "older", "zeros"])
        if kind == "flip":
            content = content[:at] + bytes([content[at] ^ rng.randint(1, 255)]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at] + content[at + rng.randint(1, 4000) :]
        elif kind == "insert":
            content = content[:at] + rng.randbytes(rng.randint(1, 200)) + content[at:]
        elif kind == "duplicate":
            content = b"".join([*lines[:here], lines[here], *lines[here:]])
        elif kind == "reorder":
            rng.shuffle(lines)
            content = b"".join(lines)
        elif kind == "crlf":
            content = content.replace(b"\n", b"\r\n")
        elif kind == "truncate":
            content = content[:at]
        elif kind == "older":
            content = b"".join(lines[:here])
        elif kind == "zeros":
            content = content[:at] + b"\0" * rng.randint(1, 600)
    return content


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
def test_damage_neither_reuses_a_number_nor_loses_readable_lines(finished, tmp_path, part):
    """CI tries 300 damages; ``GAPTUNE_SOAK=full pytest -m soak tests/engine/test_recovery.py`` 5,000."""
    refused = 0
    for seed in range(part * DAMAGES // 10, (part + 1) * DAMAGES // 10):
        rng = random.Random(seed)
        folder, with_files = tmp_path / str(seed) / "s", rng.random() < 0.5
        shutil.copytree(finished, folder)
        if not with_files:
            shutil.rmtree(folder / "trials")
        ledger = folder / "ledger.jsonl"
        ledger.write_bytes(damage(ledger.read_bytes(), rng))
        refused += not check_damaged(folder, with_files, f"seed {seed}")
        shutil.rmtree(folder.parent)
    assert refused < DAMAGES / 20  # most ledgers can be mended


def check_damaged(folder, with_files, seed):
    """Runs a damaged sweep again; returns whether it could be run."""
    ledger = folder / "ledger.jsonl"
    content = ledger.read_bytes()
    before, damages = parse_events(content)
    if not before and not damages and not with_files:
        return True  # nothing is left that would tell of a sweep
    kept = replay(before)
    if not kept.header:
        with pytest.raises(UserError, match=r"Nothing was changed|Put an earlier copy"):
            run(folder)
        assert ledger.read_bytes() == content, seed
        return False
    known = {number: trial.state for number, trial in kept.trials.items()}
    seen = set(known) | {event["trial"] for event in before if "trial" in event}
    seen |= {int(path.name) for path in (folder / "trials").glob("*")}
    record, _ = run(folder)
    after, broken = read_events(folder)
    assert broken == [], seed
    told = [event["trial"] for event in after if event["event"] == "trial"]
    assert record.header.id == kept.header.id, seed
    by_number = {}
    for event in after:
        if event["event"] == "trial":
            mine = (event["candidate"], event["config"]["seed"], str(event["params"]))
            assert by_number.setdefault(event["trial"], mine) == mine, f"{seed}: number {event['trial']} given twice"
    new = {number for number in told if number not in seen}
    assert all(number > max(seen, default=-1) for number in new), seed
    for number, state in known.items():  # what had ended has ended, with the same outcome
        if state.ended:
            assert record.trials[number].state is state, seed
            assert record.trials[number].last == kept.trials[number].last, seed
    if with_files:  # a trial that had ended COMPLETE is found again, whatever became of its lines
        for path in (folder / "trials").glob("*"):
            assert int(path.name) in record.trials, seed
    groups = record.candidates()
    assert all(len({trial.config["seed"] for trial in group}) == len(group) for group in groups.values()), seed
    assert all(trial.state.ended for trial in record.trials.values()), seed
    assert len(groups) >= 8, seed
    pairs = [(str(trial.params), trial.config["seed"]) for trial in record.trials.values()]
    assert len(set(pairs)) == len(pairs), f"{seed}: the same params on the same seed twice"
    return True


def test_a_cut_tail_is_recovered_from_the_trials_files(finished, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(finished, folder)
    whole = replay(read_events(folder)[0])
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    record, said = run(folder)
    assert any("were recovered from the checkpoints of" in line for line in said)
    complete = {n: t.last for n, t in whole.trials.items() if t.state is State.COMPLETE}
    assert complete
    assert {number: record.trials[number].last for number in complete} == complete
    assert all(record.trials[number].state is State.COMPLETE for number in complete)


def test_a_number_seen_only_in_a_damaged_line_or_a_folder_is_not_reused(tmp_path):
    folder = tmp_path / "s"
    run(folder)
    path = folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    shutil.rmtree(folder / "trials")
    highest = max(replay(read_events(folder)[0]).trials)
    # All lines of the last trial are damaged, but still show its number.
    mark = re.compile(rb'"trial":%d,' % highest)
    path.write_bytes(b"".join(line.replace(b'"crc"', b'"crx"') if mark.search(line) else line for line in lines))
    record, _ = run(folder)
    assert highest not in record.trials
    assert max(record.trials) > highest
    (folder / "trials" / "0123").mkdir(parents=True)  # an old checkpoint without a file of its own
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:6]))
    record, _ = run(folder)
    assert max(record.trials) > 123


@pytest.mark.parametrize("lines", [1, 2])
def test_seeds_that_were_cut_short_are_completed(tmp_path, lines):
    folder = tmp_path / "s"
    run(folder)
    events, _ = read_events(folder)
    first = [event for event in events if event["event"] == "trial"][:lines]
    shutil.rmtree(folder)
    with Ledger(folder) as ledger:
        for event in [events[0], *first]:
            ledger.append(event)
    record, _ = run(folder)
    groups = record.candidates()
    assert [[trial.config["seed"] for trial in group] for group in groups.values()] == [[0, 1]] * 8
    assert len(record.trials) == 16


def test_checkpoints_without_a_ledger_are_refused(finished, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(finished, folder)
    for content in (None, b""):
        if content is None:
            (folder / "ledger.jsonl").unlink()
        else:
            (folder / "ledger.jsonl").write_bytes(content)
        with pytest.raises(UserError, match="no ledger that tells of them"):
            run(folder)


def test_a_file_of_another_sweep_is_ignored_but_its_number_is_not_reused(finished, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(finished, folder)
    path = folder / "ledger.jsonl"
    events, _ = read_events(folder)
    highest = max(int(path.name) for path in (folder / "trials").iterdir())
    path.unlink()
    with Ledger(folder) as ledger:
        ledger.append(events[0] | {"id": "another"})
    record, said = run(folder)
    assert not any("recovered" in line for line in said)
    assert min(record.trials) == highest + 1

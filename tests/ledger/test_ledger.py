"""The ledger: append-only, checked line by line, and the state that it adds up to."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaptune.errors import UserError
from gaptune.ledger import Ledger, State, in_use, load, read_events, replay

CONFIG = {"training.epochs": 2, "seed": 0}
EVENTS = [
    {
        "event": "sweep",
        "at": 1.0,
        "schema": 2,
        "name": "s",
        "objectives": [{"metric": "geometry/gap", "maximize": True, "reference": 0.0, "ideal": 1.0}],
    },
    {"event": "session", "at": 2.0, "host": "h"},
    {"event": "trial", "at": 3.0, "trial": 0, "candidate": 0, "params": {"a": 1}, "config": CONFIG, "method": "FLT"},
    {"event": "start", "at": 4.0, "trial": 0, "node": "n"},
    {"event": "report", "at": 5.0, "trial": 0, "epoch": 1, "step": 10, "metrics": {"geometry/gap": 0.5}},
    {"event": "report", "at": 6.0, "trial": 0, "epoch": 2, "step": 20, "metrics": {"geometry/gap": 0.25}},
    {"event": "end", "at": 7.0, "trial": 0, "state": "COMPLETE", "reason": None},
    {"event": "done", "at": 8.0},
]


def write(folder: Path, events=EVENTS) -> Path:
    with Ledger(folder) as ledger:
        for event in events:
            ledger.append(event)
    return folder / "ledger.jsonl"


def test_what_is_written_is_read_back(tmp_path):
    write(tmp_path)
    events, damages = read_events(tmp_path)
    assert events == EVENTS
    assert damages == []


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**64 - 1)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=5,
    )
)
def test_any_json_is_read_back_exactly(content):
    import tempfile

    event = {"event": "x", "at": 0.1, "content": content}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), [event])
        assert read_events(Path(folder)) == ([event], [])


def test_non_finite_numbers_are_refused(tmp_path):
    with Ledger(tmp_path) as ledger, pytest.raises(ValueError, match="not JSON compliant"):
        ledger.append({"event": "report", "at": 0.0, "metrics": {"x": float("nan")}})
    assert read_events(tmp_path) == ([], [])


def test_the_state_is_what_the_events_add_up_to():
    record = replay(EVENTS)
    trial = record.trials[0]
    assert trial.state is State.COMPLETE
    assert trial.epoch == 2
    assert (trial.started_at, trial.ended_at) == (4.0, 7.0)
    assert record.values(trial) == [0.25]
    assert record.done
    assert record.count(State.COMPLETE) == 1


def test_a_duplicate_report_is_ignored():
    again = [*EVENTS[:5], EVENTS[4] | {"at": 5.5}, *EVENTS[5:]]
    assert replay(again).trials == replay(EVENTS).trials


def test_a_second_end_is_ignored():
    late = [*EVENTS, {"event": "end", "at": 9.0, "trial": 0, "state": "FAIL", "reason": "late"}]
    assert replay(late).trials[0].state is State.COMPLETE


def test_an_interrupted_sweep_is_paused_until_the_next_session():
    paused = [*EVENTS[:5], {"event": "pause", "at": 6.0, "reason": "interrupted"}]
    assert replay(paused).paused == "interrupted"
    assert replay([*paused, {"event": "session", "at": 7.0}]).paused is None


@pytest.mark.parametrize(
    ("asked", "sessions", "gpus"),
    [("auto", [0.25, 0.0], 0.0), ("auto", [0.0, 0.25], 0.25), ("auto", [None], 0.0), (0.5, [None], 0.5)],
)
def test_gpus_are_those_of_the_newest_session_or_of_the_config(asked, sessions, gpus):
    header = EVENTS[0] | {"config": {"resources": {"cpu": 1, "gpu": asked}}}
    began = [EVENTS[1] | ({} if number is None else {"gpu": number}) for number in sessions]
    assert replay([header, *began, *EVENTS[2:]]).gpus == gpus


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_torn_last_line_is_cut_off(tmp_path, cut):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    events, damages = read_events(tmp_path)
    if cut == 1:  # only the line end is missing, of which nothing depends
        assert (events, damages) == (EVENTS, [])
        Ledger(tmp_path).close()
        assert path.read_bytes().endswith(b"}\n")
        return
    assert events == EVENTS[:-1]
    assert [(damage.line, damage.torn) for damage in damages] == [(len(EVENTS), True)]
    with Ledger(tmp_path) as ledger:
        assert ledger.damages == damages
        assert read_events(tmp_path) == (EVENTS[:-1], [])
        ledger.append(EVENTS[-1])
    assert not (tmp_path / "ledger.quarantine").exists()
    assert read_events(tmp_path)[0] == EVENTS


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_is_detected(position, flip):
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write(folder)
        content = bytearray(path.read_bytes())
        content[position % len(content)] ^= flip
        path.write_bytes(content)
        events, damages = read_events(folder)
        assert damages
        assert all(event in EVENTS for event in events)


def test_a_corrupt_line_in_the_middle_is_quarantined_with_its_number(tmp_path):
    path = write(tmp_path)
    lines = path.read_bytes().split(b"\n")
    lines[4] = lines[4].replace(b"0.5", b"0.6")
    path.write_bytes(b"\n".join(lines))
    with Ledger(tmp_path) as ledger:
        (damage,) = ledger.damages
    assert (damage.line, damage.torn) == (5, False)
    assert b"line 5: " in (tmp_path / "ledger.quarantine").read_bytes()
    assert read_events(tmp_path) == (EVENTS[:4] + EVENTS[5:], [])


@pytest.mark.parametrize("end", [b"\r\n", b"\n\n", b"\r\r\n"])
def test_line_ends_of_an_editor_are_accepted(tmp_path, end, caplog):
    path = write(tmp_path)
    content = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", end))
    assert load(tmp_path) == replay(EVENTS)
    assert caplog.messages == []
    with Ledger(tmp_path) as ledger:
        assert ledger.damages == []
    assert path.read_bytes() == content


@pytest.mark.parametrize("damage", [b"\0" * 400, b"x" * 400, b"{}\n" * 5, os.urandom(300)])
def test_content_that_cannot_be_read_is_never_replaced(tmp_path, damage):
    (tmp_path / "ledger.jsonl").write_bytes(damage)
    with pytest.raises(UserError, match="Nothing was changed"):
        Ledger(tmp_path)
    assert (tmp_path / "ledger.jsonl").read_bytes() == damage
    assert not in_use(tmp_path)


def test_a_lost_first_line_is_put_back_from_a_session(tmp_path):
    path = write(tmp_path, [EVENTS[0], EVENTS[1] | {"sweep": EVENTS[0]}, *EVENTS[2:]])
    whole = path.read_bytes()
    path.write_bytes(b"X" + whole[1:])
    assert load(tmp_path).header.event == EVENTS[0]
    with Ledger(tmp_path):
        assert path.read_bytes() == whole


def test_reading_a_damaged_ledger_logs_one_line(tmp_path, caplog):
    path = write(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"x" + lines[3], *lines[4:]]))
    load(tmp_path)
    (message,) = caplog.messages
    assert "1 line is damaged and ignored (4)" in message


def test_reordered_and_duplicate_lines_give_the_same_state(tmp_path):
    import random

    for seed in range(50):
        shuffled = EVENTS * 2
        random.Random(seed).shuffle(shuffled)
        trial = replay(shuffled).trials[0]
        assert trial == replay(EVENTS).trials[0]


def test_lines_of_two_sweeps_in_one_ledger_are_refused():
    with pytest.raises(UserError, match="two sweeps"):
        replay([EVENTS[0] | {"id": "a"}, EVENTS[0] | {"id": "b"}])


def test_a_complete_trial_whose_last_report_was_lost_is_trained_again():
    record = replay(EVENTS[:5] + EVENTS[6:])
    assert record.trials[0].state is State.WAITING
    again = replay([*EVENTS[:5], *EVENTS[6:], EVENTS[5]])
    assert again.trials[0].state is State.COMPLETE


def test_a_driver_that_lost_its_ledger_to_another_writes_nothing_more(tmp_path):
    from gaptune.ledger import LostError

    with Ledger(tmp_path) as ledger:
        ledger.append(EVENTS[0])
        ledger._lose()  # what the lock calls when this process had stopped for longer than it allows
        with pytest.raises(LostError, match="taken"):
            ledger.append(EVENTS[1])
    assert read_events(tmp_path)[0] == EVENTS[:1]


def test_events_of_a_trial_whose_own_line_was_lost_are_ignored():
    record = replay(EVENTS[:2] + EVENTS[3:])
    assert record.trials == {}


def test_two_drivers_cannot_have_the_same_ledger(tmp_path):
    with Ledger(tmp_path) as first:
        first.append(EVENTS[0])
        assert in_use(tmp_path)
        path = tmp_path / "ledger.jsonl"
        with path.open("ab") as file:
            file.write(b"half a li")  # as if the first were writing just now
        with pytest.raises(UserError, match="being run by another process"):
            Ledger(tmp_path)
        assert path.read_bytes().endswith(b"half a li")  # the second has mended nothing under the first
    assert not in_use(tmp_path)


def _append_for_ever(folder, ready):
    with Ledger(folder) as ledger:
        ledger.append(EVENTS[0])
        number = 0
        while True:
            ledger.append({"event": "session", "at": float(number), "fill": "x" * 500}, durable=False)
            number += 1
            if number == 50:
                ready.set()


def test_a_killed_driver_leaves_a_ledger_that_opens_again(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_append_for_ever, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    Ledger(tmp_path).close()
    events, damages = read_events(tmp_path)
    assert damages == []
    assert [event["at"] for event in events[1:]] == list(map(float, range(len(events) - 1)))
    assert len(events) >= 50


def test_a_missing_ledger_and_one_without_header_are_reported(tmp_path):
    with pytest.raises(UserError, match="no sweep at"):
        load(tmp_path)
    path = write(tmp_path, EVENTS[1:])
    before = path.read_bytes()
    for reading in (load, Ledger):
        with pytest.raises(UserError, match="says what the sweep is cannot be read"):
            reading(tmp_path)
    assert path.read_bytes() == before


def test_a_ledger_of_another_schema_is_refused(tmp_path):
    write(tmp_path, [EVENTS[0] | {"schema": 99}])
    with pytest.raises(UserError, match="schema 99"):
        load(tmp_path)


def test_the_file_is_plain_json_lines(tmp_path):
    path = write(tmp_path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["event"] for row in rows] == [event["event"] for event in EVENTS]

"""Output: data stays data on any stream, and a failing stream does not end a command."""

import errno
import io
import json
import os
import shlex
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from support import Stage, sweep_config

from gaptune.console.live import Display
from gaptune.console.tables import end_report, front_table, running_table
from gaptune.console.terminal import Console
from gaptune.results import summarize
from gaptune.text.output import Stream, echo, encodable, one_line, printable

ENCODINGS = ("ascii", "latin-1", "utf-8", "cp1252", "utf-16")
HOSTILE = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.lists(
        st.sampled_from(
            ["[/x]", "[red]", "[/data/1.jpg]", "[enforce fail at a.cpp:1]", ":smile:", "\x1b]0;x\a", "\x1b[2J"]
        )
        | st.sampled_from(["\r", "\n", "\t", "\x9b", "\u202e", "\ud800", "\\[", "τ", "▁█", "字"])
    ).map("".join),
)


def stream_of(encoding):
    """A stream with an encoding, and the bytes below it."""
    raw = io.BytesIO()
    return io.TextIOWrapper(raw, encoding=encoding, newline="\n"), raw


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("console") / "s")
    for _ in range(3):
        stage.orchestrator.next_trial()
    stage.finish(0)
    stage.orchestrator.failed(1, "x")
    stage.ledger.close()
    return stage.record


@given(HOSTILE, st.sampled_from(ENCODINGS), st.sampled_from([1, 7, 20, 80, 120]))
def test_names_and_reasons_are_printed_without_control_characters(record, text, encoding, width):
    record.header = replace(record.header, name=text)
    record.trials[1].reason = record.trials[1].method = text
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text, Text(text))
    file, raw = stream_of(encoding)
    console = Console(file, width=width)
    for one in (
        running_table(record),
        end_report(record),
        front_table(record, summarize(record)),
        table,
        text,
        Text(text),
    ):
        console.print(one)
    console.say(text)
    file.flush()
    shown = raw.getvalue().decode(encoding)
    assert not [sign for sign in shown if sign < " " and sign != "\n"]
    assert not set(shown) & set("\x7f\x9b\u202e\u2028")


@given(HOSTILE.filter(lambda text: text.isprintable() and text.strip() == text and text))
def test_text_that_looks_like_markup_is_printed_unchanged(text):
    file, raw = stream_of("utf-8")
    Console(file).say(f"<{text}>")
    file.flush()
    assert raw.getvalue().decode() == f"<{text}>\n"


@given(HOSTILE)
def test_text_is_escaped_once_and_fits_its_encoding(text):
    assert printable(printable(text)) == printable(text)
    assert len(one_line(text).splitlines()) <= 1
    for encoding in ENCODINGS:
        encodable(text, encoding).encode(encoding)
    assert encodable("▁█ τ → ±", "ascii") == "_# tau -> +-"


class Broken(io.StringIO):
    """A stream that fails after some calls."""

    def __init__(self, error, after=0):
        super().__init__()
        self.error, self.left = error, after

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().write(text)


ERRORS = [
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.ENOSPC, "No space left on device"),
    ValueError("I/O operation on closed file"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_failing_stream_is_reported_once_and_not_written_again(error):
    stream = Stream(Broken(error, after=1))
    console = Console(stream)
    for _ in range(3):
        console.say("a line")
    assert stream.loss() is error
    assert stream.loss() is None


def test_printing_without_streams_does_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    echo("x")
    echo("x", err=True)
    Console().print("x")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("terminal", [False, True])
def test_sweep_continues_if_nothing_can_be_printed(tmp_path, capsys, error, terminal):
    display = Display(Console(Broken(error, after=1), force_terminal=terminal, width=80))
    stage = Stage(tmp_path / "s", listeners=(display,))
    with display:
        display.start(stage.record, 6)
        for number in range(3):
            stage.orchestrator.next_trial()
            stage.finish(number)
            display.say("a line")
    stage.ledger.close()
    assert stage.record.count("COMPLETE") == 3
    assert capsys.readouterr().err.count("nothing more can be printed") == 1


def test_error_in_the_display_does_not_end_a_sweep(tmp_path, monkeypatch):
    for terminal in (False, True):
        display = Display(Console(io.StringIO(), force_terminal=terminal, width=80))
        stage = Stage(tmp_path / str(terminal), listeners=(display,))
        with monkeypatch.context() as patch, display:
            for part in ("short", "running_table", "summarize", "ProgressBar"):
                patch.setattr(f"gaptune.console.live.{part}", lambda *given, **named: 1 / 0)
            display.start(stage.record, 6)
            stage.orchestrator.next_trial()
            stage.finish(0)
            if terminal:
                display._live.refresh()
        stage.ledger.close()


def test_panel_is_drawn_while_trials_are_added(tmp_path, record):
    """One thread adds trials while another draws them: no frame fails."""
    display = Display(Console(io.StringIO(), force_terminal=True, width=80))
    stage = Stage(tmp_path / "s", sweep=sweep_config(search={"candidates": 10**6}), num_candidates=10**6)
    display.start(stage.record, 10)
    template, enough = record.trials[0], threading.Event()

    def enter():
        number = 0
        while not enough.is_set():
            stage.record.trials[number] = template
            number += 1
            if number == 3000:
                stage.record.trials.clear()
                number = 0

    thread = threading.Thread(target=enter)
    thread.start()
    try:
        for _ in range(150):
            display._drawn()  # raises what a frame would pass over
    finally:
        enough.set()
        thread.join()
        display.close()
        stage.ledger.close()


def test_panel_shows_the_part_of_an_epoch_until_its_report(tmp_path):
    out = io.StringIO()
    display = Display(Console(out, force_terminal=True, width=120))
    stage = Stage(tmp_path / "s", listeners=(display,))
    with display:
        display.start(stage.record, 6)
        trial = stage.orchestrator.next_trial()
        stage.orchestrator.started(trial.number, "here")

        def frame():
            out.truncate(0)
            display._live.refresh()
            return out.getvalue()

        total = trial.config["training.epochs"]
        assert f"0/{total}" in frame()
        display.progress(trial.number, 0.52)
        assert f"0.5/{total}" in frame()
        metrics = {"retrieval/mean_r1": 0.5, "geometry/gap": 1.0, "temperature/tau": 0.07}
        stage.orchestrator.reported(trial.number, 1, 1, metrics)
        display.progress(trial.number, 1.0)
        assert f" 1/{total}" in frame()
    stage.ledger.close()


def test_panel_prints_reasons_unchanged_on_any_console(tmp_path):
    from rich.console import Console as Other

    out = io.StringIO()
    display = Display(Other(file=out, force_terminal=True, width=150))
    stage = Stage(tmp_path / "s", listeners=(display,))
    with display:
        display.start(stage.record, 6)
        stage.orchestrator.next_trial()
        stage.orchestrator.failed(0, "cannot read [/data/1.jpg] [enforce fail] \x1b]0;title\a")
        display._live.refresh()
    stage.ledger.close()
    assert r"cannot read [/data/1.jpg] [enforce fail] \x1b]0;title\x07" in out.getvalue()


def shell(line, **env):
    """Runs a line in bash."""
    found = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **env}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=found)


GAPTUNE = f"{shlex.quote(sys.executable)} -m gaptune.cli"


@pytest.mark.whole
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("status example >&-", 0, ""),
        ("status example <&- >&- 2>&-", 0, ""),
        ("front example > /dev/full", 1, "gaptune: the output could not be written: No space left on device\n"),
        ("--help > /dev/full", 1, "gaptune: the output could not be written: No space left on device\n"),
        ("front example --json | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("front nobody 2> /dev/full", 2, ""),
    ],
)
def test_reading_command_that_cannot_print_has_its_exit_code(line, code, said):
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = shell(f"{GAPTUNE} {line}")
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.whole
def test_file_opened_later_does_not_replace_a_closed_stream(tmp_path):
    code = (
        "from gaptune.text.output import guarded_process\n"
        "with guarded_process():\n"
        f"    file = open({str(tmp_path / 'ledger')!r}, 'w')\n"
        "    assert file.fileno() > 2"
    )
    assert shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} >&- 2>&-").returncode == 0


@pytest.mark.whole
@pytest.mark.parametrize("settings", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_every_command_prints_to_an_ascii_stream(settings):
    for command in ("front example", "show example 0", "status example", "train --help", "space show temp"):
        done = shell(f"{GAPTUNE} {command}", **settings)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()
    assert "beta" in shell(f"{GAPTUNE} theory rates", **settings).stdout
    assert json.loads(shell(f"{GAPTUNE} ls --json", **settings).stdout) == json.loads(
        shell(f"{GAPTUNE} ls --json").stdout
    )

"""Ctrl-C, SIGTERM and SIGHUP end work in order: the handlers alone, and on a whole sweep."""

import os
import random
import signal
import threading
import time

import psutil
import pytest
from mlflow import MlflowClient
from support import is_alive, write_yaml
from warm import Gaptune, run, warm_workers

from gaptune.engine import signals
from gaptune.engine.signals import Stopped, exit_code, stopping
from gaptune.ledger import State, load, read_events
from gaptune.tracking import default_uri

FULL = os.environ.get("GAPTUNE_SOAK") == "full"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("signum", ENDING)
def test_a_signal_stops_the_work_and_the_handlers_before_are_back(signum):
    before = [signal.getsignal(each) for each in ENDING]
    with pytest.raises(Stopped) as caught, stopping():
        signal.raise_signal(signum)
    assert caught.value.exit_code == 128 + signum == exit_code(str(caught.value))
    assert [signal.getsignal(each) for each in ENDING] == before
    assert exit_code("the disk is full") == 1


def test_held_signal_ends_the_work_at_the_next_check(monkeypatch):
    with stopping() as stop, stop.held():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)  # shells and systemd send several at once
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            stop.check()


def test_second_signal_goes_to_the_earlier_handler(monkeypatch):
    monkeypatch.setattr(signals, "_ONE_WISH_S", 0.0)
    heard = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: heard.append(signum))
    try:
        with stopping() as stop, stop.held():
            signal.raise_signal(signal.SIGTERM)
            assert heard == []
            time.sleep(0.01)
            signal.raise_signal(signal.SIGTERM)
            assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_was_ignored_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.signum is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_no_handler_is_installed():
    before, inside = signal.getsignal(signal.SIGTERM), []

    def work():
        with stopping():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]


@pytest.mark.whole
def test_a_single_training_stops_with_its_checkpoint_kept(tmp_path, small_features):
    _, config = write_yaml(tmp_path, small_features, epochs=100_000)
    process = Gaptune("train", "--config", config, "--out", tmp_path / "out")
    while process.poll() is None and not list((tmp_path / "out").glob("epoch-*.pt")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert process.stderr.split("\n")[-2] == "stopped by SIGTERM"
    assert "Traceback" not in process.stderr
    assert list((tmp_path / "out").glob("epoch-*.pt"))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_sweep_stopped_at_any_moment_ends_in_order_and_is_resumed(tmp_path, small_features):
    """Each is sent to the driver alone or, as by Slurm, systemd and closed terminals, to Ray's processes too."""
    stops = [(signum, False) for signum in ENDING[1:] * 5] + [(signum, True) for signum in ENDING[1:] * 5]
    stops = stops if FULL else [(signal.SIGINT, True), (signal.SIGTERM, False)]
    trials = 24 if FULL else 3
    space, config = write_yaml(tmp_path, small_features, trials=trials, epochs=60)
    command = ["sweep", space, "--config", config, "--name", "s", "--results", tmp_path / "results"]
    command += ["--concurrency", "2" if FULL else "1"]
    folder = tmp_path / "results" / "s"
    rng, kept = random.Random(0), {}

    def events():
        return read_events(folder)[0] if (folder / "ledger.jsonl").exists() else []

    for signum, to_all in stops:
        wanted = len(events()) + rng.randint(4, 9)  # a moment in what happens, not on the clock
        # Only workers of Ray's own are in the session that is sent a signal.
        process = Gaptune(*command, new_session=True, env=None if to_all else warm_workers())
        while len(events()) < wanted and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))
        assert process.poll() is None, "it has ended before it was stopped"
        below = psutil.Process(process.pid).children(recursive=True)
        (os.killpg if to_all else os.kill)(process.pid, signum)
        code = process.wait(timeout=300)
        text = process.stdout + process.stderr
        assert code == 128 + signum, text
        assert "Traceback" not in text
        assert "***" not in text  # Ray's C++ stacks
        assert not [one for one in below if is_alive(one)]
        record = load(folder)
        assert record.paused == str(Stopped(signum))
        assert "To resume: gaptune sweep" in text
        assert not [reason for trial in record.trials.values() for reason in trial.retries]
        for number, reports in kept.items():
            assert list(record.trials[number].reports)[: len(reports)] == reports
        kept = {number: list(trial.reports) for number, trial in record.trials.items()}
        client = MlflowClient(tracking_uri=default_uri(tmp_path / "results"))
        runs = client.search_runs([client.get_experiment_by_name("gaptune").experiment_id], max_results=1000)
        assert {run.info.status for run in runs} <= {"FINISHED", "KILLED", "FAILED"}
    run(*command, timeout=1200, env=warm_workers())
    assert load(folder).count(State.COMPLETE) == trials

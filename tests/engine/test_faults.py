"""Faults on real processes: killed workers, killed drivers. GAPTUNE_SOAK=full repeats them as often as the docs say."""

import io
import os
import random
import signal
import threading
import time
from contextlib import suppress

import psutil
import pytest
from mlflow import MlflowClient
from rich.console import Console
from support import trial_workers, write_yaml
from warm import Gaptune, warm_workers
from warm import run as gaptune

from gaptune.config import load_sweep_config
from gaptune.console.live import Display
from gaptune.engine.plan import prepare
from gaptune.engine.session import run
from gaptune.ledger import State, load, read_events, replay
from gaptune.ledger.backup import stored_ledger
from gaptune.space.parse import load_space
from gaptune.storage.folder import Folder
from gaptune.tracking import default_uri
from gaptune.trial.checkpoint import Checkpoints

FULL = os.environ.get("GAPTUNE_SOAK") == "full"
EPOCHS = 80
"""Seconds: time for a blow after any report, on a machine that does other things too."""


def start(folder, store, **yaml):
    space, config = write_yaml(folder, store, **yaml)
    results = folder / "results"
    plan = prepare(load_space(space), load_sweep_config(config), name="s", results=results, now=time.time(), command="")
    with Display(Console(file=io.StringIO())) as display:
        return run(plan, display=display, results=results, tracking_uri=None, address=None, clock=time.time)


def weights(folder, number):
    state = Checkpoints(folder / "results" / "s" / "trials" / f"{number:04d}").load()
    return state["model"], state["report"]["epoch"]


def strike(folder, blows):
    """Sends one signal after another to the workers of a sweep, each after a report that is still to come."""

    def reports():
        return [event for event in (read_events(folder)[0] if there.exists() else []) if event["event"] == "report"]

    there, struck = folder / "ledger.jsonl", []
    for blow in blows:
        before = len(struck)
        while len(struck) == before:  # a report may still be of a worker that has been struck
            seen = len(reports())
            while len(reports()) <= seen:
                time.sleep(0.02)
            for worker in trial_workers():
                with suppress(psutil.Error):  # it has just ended
                    if worker not in struck:
                        worker.send_signal(blow)
                        struck.append(worker)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_killed_or_stuck_worker_resumes_from_its_checkpoint_to_the_same_weights(tmp_path, small_features, local_ray):
    import torch

    calm = tmp_path / "calm"
    calm.mkdir()
    start(calm, small_features, trials=1, epochs=EPOCHS)
    for turn in range(10 if FULL else 1):
        struck = tmp_path / f"struck-{turn}"
        struck.mkdir()
        blows = (signal.SIGKILL, signal.SIGSTOP)
        thread = threading.Thread(target=strike, args=(struck / "results" / "s", blows), daemon=True)
        thread.start()
        record = start(struck, small_features, trials=1, epochs=EPOCHS, more="resources: {stall_minutes: 0.4}\n")
        thread.join(5)
        assert not thread.is_alive()
        (trial,) = record.trials.values()
        assert trial.state is State.COMPLETE
        lost, stuck = trial.retries
        assert lost.startswith("worker lost")
        assert stuck == "worker stuck: no progress for 0.4 minutes"
        assert [report.epoch for report in trial.reports] == list(range(1, EPOCHS + 1))
        (expected, epochs), (got, again) = weights(calm, 0), weights(struck, 0)
        assert epochs == again == EPOCHS
        assert expected.keys() == got.keys()
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_exception_in_a_worker_is_retried_and_then_fails_with_its_message(tmp_path, small_features, local_ray, capfd):
    """A folder where the checkpoint should be: no retry can cure it."""
    folder = tmp_path / "results" / "s" / "trials" / "0000" / "epoch-0001.pt"

    def block():
        while not (tmp_path / "results" / "s" / "ledger.jsonl").exists():
            time.sleep(0.01)
        folder.mkdir(parents=True)  # long before the first epoch has been trained

    thread = threading.Thread(target=block, daemon=True)
    thread.start()
    record = start(tmp_path, small_features, trials=2)
    thread.join(5)
    broken, fine = record.trials.values()
    assert broken.state is State.FAIL
    assert broken.reason.startswith("exception: IsADirectoryError")
    assert broken.reason.endswith(" (traceback: trials/0000/error.txt)")
    assert (folder.parent / "error.txt").read_text().count("Failure # ") == 3
    assert "Traceback" not in "".join(capfd.readouterr())
    assert len(broken.retries) == 2
    assert fine.state is State.COMPLETE
    assert record.done


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("seed", range(5 if FULL else 1))
def test_a_driver_killed_at_random_moments_is_continued_by_the_same_command(tmp_path, small_features, seed, lanes):
    """With two seeds for each candidate, early stopping, and a storage; in full 100 kills of five sweeps, twice."""
    kills, candidates = (20, 8) if FULL else (2, 3)
    trials = 2 * candidates
    more = f"early_stopping: {{method: asha, min_fraction: 0.3}}\nresources: {{lanes: {lanes}}}\n"
    space, config = write_yaml(tmp_path, small_features, trials=candidates, epochs=12, more=more)
    config.write_text(config.read_text().replace("search: {", "search: {seeds: 2, "))
    command = ["sweep", space, "--config", config, "--name", "s", "--storage", f"file://{tmp_path}/far"]
    command += ["--results", tmp_path / "results", "--concurrency", "2"]
    folder = tmp_path / "results" / "s"
    rng, finished = random.Random(seed), {}

    def events():
        return read_events(folder)[0] if (folder / "ledger.jsonl").exists() else []

    for _ in range(kills):
        seen = len(events())
        process = Gaptune(*command, env=warm_workers())
        # A moment in what happens, not on the clock: starting takes its time. Or one while it starts.
        wanted = seen + (rng.randint(1, 8) if rng.random() < 0.9 else 0)
        while len(events()) < wanted and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5) if wanted > seen else rng.uniform(0, 8))
        process.kill()
        process.wait()
        for number, trial in replay(events()).trials.items():
            assert finished.get(number, trial) == trial  # what has ended stays as it ended
            if trial.state.ended:
                finished[number] = trial
    gaptune(*command, timeout=1200, env=warm_workers())
    record = load(folder)
    assert sorted(record.trials) == list(range(trials))
    assert all(trial.state in (State.COMPLETE, State.PRUNED) for trial in record.trials.values())
    assert all(record.trials[number] == trial for number, trial in finished.items())
    happened = [(e["event"], e["trial"], e.get("epoch")) for e in events() if e["event"] in ("trial", "report", "end")]
    assert len(happened) == len(set(happened))  # nothing drawn, reported or ended twice
    assert {len(group) for group in record.candidates().values()} == {2}
    stored = stored_ledger(Folder(f"file://{tmp_path}/far/s"))
    assert stored == (folder / "ledger.jsonl").read_bytes()

    client = MlflowClient(tracking_uri=default_uri(tmp_path / "results"))
    runs = client.search_runs([client.get_experiment_by_name("gaptune").experiment_id], max_results=1000)
    children = {int(run.data.tags["gaptune.trial"]): run for run in runs if "gaptune.trial" in run.data.tags}
    assert len(runs) == trials + 1
    for number, trial in record.trials.items():
        assert children[number].data.tags["gaptune.state"] == trial.state
        assert children[number].info.status == {"COMPLETE": "FINISHED", "PRUNED": "KILLED"}[trial.state]
        history = client.get_metric_history(children[number].info.run_id, "geometry/gap")
        assert [(m.step, m.value) for m in history] == [(r.epoch, r.metrics["geometry/gap"]) for r in trial.reports]

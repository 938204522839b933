"""What stays of ended trials: while a sweep runs, at its end, and by ``gaptune clean`` for older ones."""

import io
import json
import threading
import time

import pytest
import torch
from click.testing import CliRunner
from support import Stage, sweep_config

from gaptune.cli import cli
from gaptune.engine.retention import Retention, needed
from gaptune.errors import UserError
from gaptune.ledger import Ledger, State
from gaptune.storage.checkpoint_files import write_sealed
from gaptune.trial.checkpoint import Checkpoints, read_checkpoint

FULL = ["epoch-0001.optimizer.pt", "epoch-0001.pt", "epoch-0002.pt"]
KEYS = {"config": "{}", "data": {}, "scale": {}}


def train(folder, epochs=2, old=False):
    """What a training leaves; ``old`` as gaptune 0.1.0 did, everything in one file."""
    kept = Checkpoints(folder)
    for epoch in range(1, epochs + 1):
        state = KEYS | {"report": {"epoch": epoch, "step": 1, "metrics": {}}, "model": {"weights": torch.zeros(1000)}}
        moments = {"step": torch.zeros(1), "exp_avg": torch.zeros(1000), "exp_avg_sq": torch.zeros(1000)}
        optimizer = {"optimizer": {"state": {0: moments}}}
        if old:
            buffer = io.BytesIO()
            torch.save(state | optimizer, buffer)
            folder.mkdir(parents=True, exist_ok=True)
            write_sealed(folder / f"epoch-{epoch:04d}.pt", buffer.getbuffer())
        else:
            kept.save(epoch, state if epoch == 2 else state | optimizer)
    (folder / "trial.json").write_text("{}")
    if epochs == 2:
        (folder / "sample.npz").write_bytes(b"sample")


def left(folder, number):
    """Files of a trial that are part of a checkpoint, or its sample; ``trial.json`` always has to be there."""
    names = sorted(path.name for path in (folder / "trials" / f"{number:04d}").iterdir())
    names.remove("trial.json")
    return names


@pytest.fixture
def stage(tmp_path):
    """Trials 0 and 1 complete (1 dominated), 2 failed after an epoch, 3 stopped, 4 under way; all with checkpoints."""
    return make_stage(tmp_path / "results" / "s")


def make_stage(folder, old=False):
    stage = Stage(folder)
    for number in range(5):
        assert stage.orchestrator.next_trial().number == number
        train(folder / "trials" / f"{number:04d}", epochs=1 if number in (2, 3, 4) else 2, old=old)
    stage.finish(0, recall=0.5)
    stage.finish(1, recall=0.4)
    for number in (2, 3, 4):
        stage.orchestrator.started(number, "here")
        stage.orchestrator.reported(number, 1, 10, {"retrieval/mean_r1": 0.1, "geometry/gap": 1.0})
    stage.orchestrator.failed(2, "non-finite")
    stage.orchestrator._end(stage.record.trials[3], State.PRUNED, "rung")
    return stage


def folder_of(stage):
    return stage.ledger.path.parent


def test_what_is_needed_of_each_trial(stage):
    complete = {0: "weights", 1: "weights", 2: "nothing", 3: "nothing"}
    assert needed(stage.record, "complete") == complete
    assert needed(stage.record, "front") == complete | {1: "nothing"}
    assert needed(stage.record, "none") == complete | {0: "sample", 1: "nothing"}


def test_complete_seed_of_an_unfinished_candidate_keeps_its_weights(tmp_path):
    stage = Stage(tmp_path / "s", sweep=sweep_config(search={"seeds": 2}))
    stage.finish(stage.orchestrator.next_trial().number)
    assert needed(stage.record, "front") == {0: "weights"}


@pytest.mark.parametrize(
    ("keep", "finished", "dominated"),
    [
        ("complete", True, ["epoch-0002.pt", "sample.npz"]),
        ("front", False, ["epoch-0002.pt", "sample.npz"]),
        ("front", True, []),
        ("all", True, [*FULL, "sample.npz"]),
    ],
)
def test_sweep_keeps_at_its_end_what_its_setting_says(stage, keep, finished, dominated):
    folder = folder_of(stage)
    retention = Retention(stage.record, folder / "trials", keep, pytest.fail)
    stage.record.done = finished
    retention.close()
    assert left(folder, 0) == [*(FULL if keep == "all" else ["epoch-0002.pt"]), "sample.npz"]
    assert left(folder, 1) == dominated
    assert left(folder, 2) == left(folder, 3) == (FULL[:2] if keep == "all" else [])
    assert left(folder, 4) == FULL[:2]  # it may go on


def test_a_trial_is_slimmed_as_it_ends_and_what_its_worker_saved_late_at_the_sweeps_end(tmp_path):
    folder = tmp_path / "s"
    retention = None
    stage = Stage(folder, listeners=(lambda event: retention and retention(event),))
    retention = Retention(stage.record, folder / "trials", "complete", pytest.fail)
    number = stage.orchestrator.next_trial().number
    train(folder / "trials" / "0000", epochs=1)
    stage.orchestrator.started(number, "here")
    stage.orchestrator.failed(number, "seed 1 failed")
    deadline = time.monotonic() + 60
    while left(folder, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left(folder, 0) == []
    train(folder / "trials" / "0000", epochs=1)
    retention.close()
    assert left(folder, 0) == []


def test_error_in_removing_is_reported_once_and_ends_nothing(stage, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("not yours")

    said = []
    with monkeypatch.context() as patch:
        patch.setattr("gaptune.engine.retention.slim", refuse)
        retention = Retention(stage.record, folder_of(stage) / "trials", "complete", said.append)
        retention({"event": "end", "trial": 0, "state": "COMPLETE"})
        retention.close()
    assert said == ["checkpoints that are not needed any more could not be removed: not yours"]
    Retention(stage.record, folder_of(stage) / "trials", "complete", said.append).close()
    assert left(folder_of(stage), 2) == []
    assert len(said) == 1


def test_hanging_storage_delays_the_end_for_a_limited_time(stage, monkeypatch):
    goes_on = threading.Event()
    monkeypatch.setattr("gaptune.engine.retention.trial_files", lambda _: goes_on.wait(60) and {})
    said = []
    Retention(stage.record, folder_of(stage) / "trials", "complete", said.append).close(patience=0.1)
    goes_on.set()
    assert said == ["checkpoints that are not needed any more are left; gaptune clean removes them"]


# --- gaptune clean ---


def clean(results, *words):
    return CliRunner().invoke(cli, ["clean", *words, "--results", str(results)])


@pytest.fixture(params=[False, True], ids=["now", "0.1.0"])
def ended(request, tmp_path):
    """A stopped sweep whose trials have all their checkpoints, as those of a gaptune that removed none."""
    stage = make_stage(tmp_path / "results" / "s", old=request.param)
    stage.orchestrator.close("interrupted")
    stage.ledger.close()
    return tmp_path / "results"


def everything(results):
    return {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}


def used(results):
    return sum(path.stat().st_size for path in (results / "s" / "trials").rglob("*") if path.is_file())


def test_without_yes_it_says_what_it_would_free_and_changes_nothing(ended):
    before = everything(ended)
    said = clean(ended)
    assert "nothing was deleted; the same command with --yes frees" in said.stdout
    assert everything(ended) == before


@pytest.mark.parametrize(
    ("keep", "first", "second"),
    [
        ("complete", ["epoch-0002.pt", "sample.npz"], ["epoch-0002.pt", "sample.npz"]),
        ("front", ["epoch-0002.pt", "sample.npz"], []),
        ("none", ["sample.npz"], []),
    ],
)
def test_with_yes_it_frees_what_it_said_and_nothing_else(ended, keep, first, second):
    before, ledger, unfinished = used(ended), (ended / "s" / "ledger.jsonl").read_bytes(), left(ended / "s", 4)
    promised = json.loads(clean(ended, "s", "--keep", keep, "--json").stdout)["sweeps"][0]
    done = json.loads(clean(ended, "s", "--keep", keep, "--yes", "--json").stdout)
    assert done == {"keep": keep, "removed": True, "sweeps": [promised]}
    freed = promised["optimizer_bytes"] + promised["weights_bytes"]
    assert before - used(ended) == pytest.approx(freed, abs=3000)  # the archive around the numbers of 0.1.0's optimizer
    assert promised["kept_bytes"] == pytest.approx(used(ended), abs=3000)
    assert left(ended / "s", 0) == first
    assert left(ended / "s", 1) == second
    assert left(ended / "s", 2) == left(ended / "s", 3) == []
    assert left(ended / "s", 4) == unfinished
    assert (ended / "s" / "ledger.jsonl").read_bytes() == ledger
    if keep != "none":
        assert "optimizer" not in read_checkpoint(ended / "s" / "trials" / "0000")
    assert "there is nothing to delete" in clean(ended, "--keep", keep).stdout


def test_a_running_sweep_is_refused_and_left_out_of_all(ended):
    before = everything(ended)
    with Ledger(ended / "s"):
        assert "is running" in str(clean(ended, "s", "--yes").exception)
        assert "s is running and was not cleaned" in clean(ended, "--yes").stdout
    assert everything(ended) == before


def test_names_that_have_nothing_to_clean_are_refused(ended):
    for name, message in (("example", "example sweep"), ("t", "no sweep 't'")):
        error = clean(ended, name).exception
        assert isinstance(error, UserError)
        assert message in str(error)


def test_a_damaged_ledger_decides_nothing(ended):
    path = ended / "s" / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = b"damaged\n"
    path.write_bytes(b"".join(lines))
    before = everything(ended)
    assert "is damaged" in str(clean(ended, "--yes").exception)
    assert everything(ended) == before


def test_a_sweep_in_a_storage_is_cleaned_there(tmp_path):
    far = tmp_path / "far"
    stage = make_stage(far / "s")
    stage.record.header.event["config"]["storage"] = f"file://{far}"
    here = Ledger(tmp_path / "results" / "s")
    for event in [stage.record.header.event, *stage.heard]:
        here.append(event)
    here.close()
    assert "deleted" in clean(tmp_path / "results", "--yes").stdout
    assert left(far / "s", 0) == ["epoch-0002.pt", "sample.npz"]
    assert left(far / "s", 4) == FULL[:2]

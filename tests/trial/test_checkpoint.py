"""Checkpoints: atomic, checked, two of them kept; damaged ones set aside; one training a folder."""

import hashlib
import io
import logging
import os
import time
from pathlib import Path

import filelock
import pytest
import torch
from click.testing import CliRunner

import gaptune
from gaptune.cli import cli
from gaptune.errors import UserError
from gaptune.trial.checkpoint import Checkpoints, alone, read_checkpoint, save_sample, without_optimizer

IDENTITY = '{"seed": 0}'


def state(epoch, **changes):
    report = {"epoch": epoch, "step": 10 * epoch, "metrics": {"recall": 0.5}}
    model, scale = {"weights": torch.full((50,), float(epoch))}, {"nu": torch.tensor(1.0)}
    optimizer = {"state": {0: {"exp_avg": torch.full((100,), float(epoch))}}}
    known = {"config": IDENTITY, "data": {"name": "scenes"}, "report": report}
    return {**known, "model": model, "scale": scale, "optimizer": optimizer} | changes


def write_sealed(path, content):
    """A file whose seal is good, whatever its content."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())


@pytest.fixture
def kept(tmp_path):
    """Checkpoints after epochs 1 and 2."""
    checkpoints = Checkpoints(tmp_path / "trial")
    for epoch in (1, 2):
        checkpoints.save(epoch, state(epoch))
    return checkpoints


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def pair(epoch):
    return [f"epoch-{epoch:04d}.optimizer.pt", f"epoch-{epoch:04d}.pt"]


def epoch_resumed(checkpoints, epochs=9):
    found = checkpoints.resume(IDENTITY, epochs)
    return found and found["report"]["epoch"]


def test_saved_checkpoint_is_resumed(kept):
    found = kept.resume(IDENTITY, 9)
    assert torch.equal(found["model"].pop("weights"), torch.full((50,), 2.0))
    assert torch.equal(found["optimizer"]["state"][0].pop("exp_avg"), torch.full((100,), 2.0))
    assert found["report"] == {"epoch": 2, "step": 20, "metrics": {"recall": 0.5}}


def test_reading_needs_no_optimizer(kept):
    for path in kept.folder.glob("*.optimizer.pt"):
        path.unlink()
    assert kept.load()["report"]["epoch"] == read_checkpoint(kept.folder)["report"]["epoch"] == 2
    assert "optimizer" not in kept.load()


def test_without_checkpoints_nothing_is_found_and_no_folder_is_made(tmp_path):
    assert Checkpoints(tmp_path / "trial").load() is None
    assert Checkpoints(tmp_path / "trial").resume(IDENTITY, 9) is None
    assert not (tmp_path / "trial").exists()


def test_newest_two_are_kept_and_nothing_else_is_touched(kept):
    (kept.folder / "trial.json").write_text("{}")
    kept.save(3, state(3))
    assert names(kept) == [*pair(2), *pair(3), "trial.json"]


def test_checkpoint_of_the_last_epoch_is_resumed_without_an_optimizer(kept):
    last = state(3)
    del last["optimizer"]
    kept.save(3, last)
    assert names(kept) == [*pair(2), "epoch-0003.pt"]
    assert epoch_resumed(kept, epochs=3) == 3


def test_checkpoint_of_another_training_is_refused_and_stays(kept):
    with pytest.raises(UserError, match="another configuration"):
        kept.resume("other", 9)
    assert names(kept) == [*pair(1), *pair(2)]


def test_checkpoint_of_0_1_0_which_is_one_file_is_resumed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for epoch in (1, 2):
        write_sealed(tmp_path / f"epoch-{epoch:04d}.pt", state(epoch))
    assert torch.equal(checkpoints.resume(IDENTITY, 9)["optimizer"]["state"][0]["exp_avg"], torch.full((100,), 2.0))
    checkpoints.save(3, state(3))
    assert names(checkpoints) == ["epoch-0002.pt", *pair(3)]


def test_checkpoints_of_0_1_0_are_slimmed_once(tmp_path):
    path = tmp_path / "epoch-0002.pt"
    write_sealed(path, state(2))
    before = path.stat().st_size
    for _ in range(2):
        without_optimizer(path)
        assert "optimizer" not in read_checkpoint(path)
        assert path.stat().st_size < before
    path.write_bytes(b"damaged")
    without_optimizer(path)
    assert path.read_bytes() == b"damaged"


# --- writing ---


def test_checkpoint_that_was_not_finished_is_ignored_and_removed_when_its_writer_is_long_dead(kept):
    fresh, dead, old = (
        kept.folder / name for name in ("epoch-0003.pt.1-a.partial", "sample.npz.2-b.partial", "epoch-0003.partial")
    )
    for path in (fresh, dead, old):
        path.write_bytes(b"half")
    for path in (dead, old):
        os.utime(path, (time.time() - 86400,) * 2)
    assert epoch_resumed(kept) == 2
    kept.save(3, state(3))
    assert names(kept) == [*pair(2), *pair(3), fresh.name]


def test_two_writers_never_write_to_one_file(tmp_path, monkeypatch):
    written = []

    def write(path, _):
        written.append(path)
        path.touch()
        return b""

    monkeypatch.setattr("gaptune.trial.checkpoint.write_sealed", write)
    monkeypatch.setattr(Path, "replace", lambda *_: None)
    (tmp_path / "epoch-0001.pt").touch()
    for _ in range(2):
        Checkpoints(tmp_path).save(1, state(1))
    assert len(set(written)) == 4


def test_slower_writer_does_not_replace_files_of_a_faster_one(kept):
    kept.save(3, state(3))
    Checkpoints(kept.folder).save(1, state(1))
    assert epoch_resumed(kept) == 3


@pytest.mark.parametrize("fails_at", [1, 2])
def test_failed_save_keeps_the_previous_checkpoint(kept, monkeypatch, fails_at):
    """On a full disk: while the weights are written, or while the optimizer is."""
    calls = []

    def full(file):
        calls.append(file)
        if len(calls) == fails_at:
            raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        kept.save(3, state(3))
    assert names(kept) == [*pair(1), *pair(2)]
    assert epoch_resumed(kept) == 2


def test_writer_killed_between_its_two_files_leaves_the_checkpoint_before(kept, monkeypatch):
    whole = Path.replace

    def killed(self, target):
        if target.name == "epoch-0003.pt":
            raise KeyboardInterrupt
        return whole(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.save(3, state(3))
    assert epoch_resumed(kept) == 2


def test_failed_sample_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("gaptune.trial.checkpoint.np.savez", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_sample(tmp_path, torch.zeros(2, 2), torch.zeros(2, 2))
    assert not list(tmp_path.iterdir())


def elsewhere(folder):
    """The lock as another process holds it."""
    return filelock.FileLock(folder / "train.lock")


def test_one_process_trains_in_a_folder(tmp_path):
    with alone(tmp_path), alone(tmp_path), pytest.raises(filelock.Timeout):
        elsewhere(tmp_path).acquire(timeout=0)
    with elsewhere(tmp_path), pytest.raises(UserError, match="another process trains in"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


@pytest.mark.whole
def test_second_training_in_a_folder_is_refused_before_its_first_report(tmp_path):
    with elsewhere(tmp_path):
        said = CliRunner().invoke(cli, ["train", "--out", str(tmp_path)])
        with pytest.raises(UserError, match="another process trains"):
            next(gaptune.train({}, checkpoints=tmp_path))
    assert isinstance(said.exception, UserError)
    assert said.output == ""


# --- damage ---


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def without(key):
    return lambda path: write_sealed(path, {name: value for name, value in state(2).items() if name != key})


DAMAGES = {
    "flipped byte": flip_a_byte,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"x"),
    # From here on the seal is good.
    "only a seal": lambda path: path.write_bytes(hashlib.sha256(b"").digest()),
    "no archive": lambda path: path.write_bytes(b"text" + hashlib.sha256(b"text").digest()),
    "no mapping": lambda path: write_sealed(path, [1, 2]),
    "no model": without("model"),
    "no report": without("report"),
    "another configuration": lambda path: write_sealed(path, state(2, config="not JSON")),
    "another report": lambda path: write_sealed(path, state(2, report={"epoch": "two"})),
}
each_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


@each_damage
@pytest.mark.parametrize("which", ["epoch-0002.pt", "epoch-0002.optimizer.pt"])
def test_damaged_checkpoint_is_set_aside_with_a_warning(kept, damage, which, caplog):
    damage(kept.folder / which)
    content = (kept.folder / which).read_bytes()
    with caplog.at_level(logging.WARNING):
        assert epoch_resumed(kept) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{which} is damaged, and kept as {which}.damaged; epoch 1 is used" in caplog.text
    kept.save(2, state(2))
    assert epoch_resumed(kept) == 2
    assert (kept.folder / f"{which}.damaged").read_bytes() == content


@each_damage
def test_damaged_checkpoint_is_skipped_when_reading(kept, damage, caplog):
    damage(kept.folder / "epoch-0002.pt")
    assert kept.load()["report"]["epoch"] == 1
    assert "epoch-0002.pt is damaged; epoch 1 is used" in caplog.text
    assert names(kept) == [*pair(1), *pair(2)]
    with pytest.raises(UserError, match=r"epoch-0002.pt is no whole checkpoint"):
        read_checkpoint(kept.folder / "epoch-0002.pt")


@each_damage
def test_reading_fails_with_a_warning_when_all_checkpoints_are_damaged(kept, damage, caplog):
    damage(kept.folder / "epoch-0002.pt")
    flip_a_byte(kept.folder / "epoch-0001.pt")
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        read_checkpoint(kept.folder)
    assert caplog.text.count("is damaged; no other is whole") == len(caplog.records) == 2


def test_weights_whose_optimizer_is_of_another_save_are_not_resumed(kept):
    other = Checkpoints(kept.folder.parent / "other")
    other.save(2, state(2, config="that"))
    (other.folder / "epoch-0002.optimizer.pt").replace(kept.folder / "epoch-0002.optimizer.pt")
    assert epoch_resumed(kept) == 1


def test_training_restarts_if_all_checkpoints_are_damaged_and_keeps_them(kept, caplog):
    for path in kept.folder.glob("epoch-000?.pt"):
        flip_a_byte(path)
    assert epoch_resumed(kept) is None
    assert caplog.text.count("the training starts anew") == len(caplog.records) == 2
    kept.save(1, state(1))
    assert epoch_resumed(kept) == 1
    flip_a_byte(kept.folder / "epoch-0001.pt")
    assert epoch_resumed(kept) is None
    damaged = [name for name in names(kept) if name.endswith(".damaged")]
    assert damaged == ["epoch-0001.pt.2.damaged", "epoch-0001.pt.damaged", "epoch-0002.pt.damaged"]


class Code:
    """What a pickle can do when nobody watches."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("which", ["epoch-0002.pt", "epoch-0002.optimizer.pt"])
def test_pickle_with_code_counts_as_damaged_and_is_not_run(kept, tmp_path, which):
    trap = tmp_path / "ran"
    write_sealed(kept.folder / which, state(2, model=Code(trap)))
    assert epoch_resumed(kept) == 1
    assert not trap.exists()

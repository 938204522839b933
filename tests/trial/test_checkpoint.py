"""Checkpoints: atomic, checked, two of them kept."""

import hashlib
import io
import logging
import pickle
from pathlib import Path

import pytest
import torch

from gaptune.trial.checkpoint import Checkpoints


def state(epoch):
    return {"weights": torch.full((50,), float(epoch)), "report": {"epoch": epoch}, "config": "text", "list": [1, 2.5]}


@pytest.fixture
def kept(tmp_path):
    """Checkpoints after epochs 1 and 2."""
    checkpoints = Checkpoints(tmp_path / "trial")
    for epoch in (1, 2):
        checkpoints.save(epoch, state(epoch))
    return checkpoints


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_what_is_saved_is_loaded(kept):
    loaded = kept.load()
    assert torch.equal(loaded.pop("weights"), torch.full((50,), 2.0))
    assert loaded == {"report": {"epoch": 2}, "config": "text", "list": [1, 2.5]}


def test_without_checkpoints_nothing_is_loaded_and_no_folder_is_made(tmp_path):
    assert Checkpoints(tmp_path / "trial").load() is None
    assert not (tmp_path / "trial").exists()


def test_the_newest_two_are_kept(kept):
    kept.save(3, state(3))
    assert names(kept) == ["epoch-0002.pt", "epoch-0003.pt"]


def test_a_checkpoint_that_was_not_finished_is_ignored(kept):
    (kept.folder / "epoch-0003.partial").write_bytes((kept.folder / "epoch-0002.pt").read_bytes()[:100])
    assert kept.load()["report"]["epoch"] == 2
    kept.save(3, state(3))
    assert names(kept) == ["epoch-0002.pt", "epoch-0003.pt"]


def test_a_save_that_fails_leaves_what_was_there(kept, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("gaptune.trial.checkpoint.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        kept.save(3, state(3))
    assert kept.load()["report"]["epoch"] == 2


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped byte": flip_a_byte,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"x"),
}
each_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


@each_damage
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(kept, damage, caplog):
    damage(kept.folder / "epoch-0002.pt")
    with caplog.at_level(logging.WARNING):
        assert kept.load()["report"]["epoch"] == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "epoch-0002.pt is damaged" in caplog.text


def test_if_all_are_damaged_there_is_none(kept, caplog):
    for path in kept.folder.iterdir():
        flip_a_byte(path)
    assert kept.load() is None
    assert len(caplog.records) == 2


def test_a_training_that_starts_over_behind_damaged_checkpoints_keeps_its_own(kept):
    kept.save(3, state(3))
    for path in kept.folder.iterdir():
        flip_a_byte(path)
    kept.save(1, state(1))
    assert names(kept) == ["epoch-0001.pt"]
    assert kept.load()["report"]["epoch"] == 1


def test_going_back_behind_a_damaged_checkpoint_replaces_it(kept):
    kept.save(3, state(3))
    flip_a_byte(kept.folder / "epoch-0003.pt")
    kept.save(3, state(3))
    assert kept.load()["report"]["epoch"] == 3
    assert names(kept) == ["epoch-0002.pt", "epoch-0003.pt"]


class Code:
    """What a pickle can do when nobody watches."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_without_running_it(kept, tmp_path):
    trap = tmp_path / "ran"
    buffer = io.BytesIO()
    torch.save({"report": {"epoch": 3}, "model": Code(trap)}, buffer)
    content = buffer.getvalue()
    (kept.folder / "epoch-0003.pt").write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(pickle.UnpicklingError, match="Weights only"):
        kept.load()
    assert not trap.exists()

"""Files of checkpoints: what may go once a trial has ended, here and in a storage, whenever it is cut off."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from gaptune.storage.checkpoint_files import epoch_of, slim, surplus, trial_files, weights_epoch
from gaptune.storage.folder import Folder

TRIAL = {
    "epoch-0002.pt": 100,
    "epoch-0002.optimizer.pt": 200,
    "epoch-0003.pt": 100,
    "epoch-0003.optimizer.pt": 200,
    "epoch-0001.pt.damaged": 50,
    "sample.npz": 60,
    "trial.json": 70,
}
LEFT = {
    "weights": ["epoch-0003.pt", "sample.npz", "trial.json"],
    "sample": ["sample.npz", "trial.json"],
    "nothing": ["trial.json"],
}


def sealed(size):
    content = b"x" * (size - 32)
    return content + hashlib.sha256(content).digest()


@pytest.fixture(params=["path", "file", "memory"])
def trials(request, tmp_path):
    """The folder of trials: a path, a URL of pyarrow's, or one that only fsspec knows; and how to fill it."""
    if request.param == "path":
        place = tmp_path / "trials"
    else:
        place = Folder(f"file://{tmp_path}/far" if request.param == "file" else f"memory://trials-{tmp_path.name}")

    def fill(number, files=TRIAL):
        for name, size in files.items():
            local = (place if isinstance(place, Path) else tmp_path / "fill") / f"{number:04d}" / name
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(sealed(size))
            if isinstance(place, Folder):
                place.put(local, f"{number:04d}/{name}")

    return place, fill


@pytest.mark.parametrize("keep", LEFT)
def test_ended_trial_keeps_the_requested_files(trials, keep):
    place, fill = trials
    for number in (0, 1, 12345):
        fill(number)
    freed = sum(TRIAL.values()) - sum(TRIAL[name] for name in LEFT[keep])
    assert slim(place, 12345, keep) == freed
    files = trial_files(place)
    assert sorted(files[12345]) == LEFT[keep]
    assert files[0] == files[1] == TRIAL
    assert slim(place, 12345, keep) == 0


def test_empty_folder_of_a_trial_is_kept(tmp_path):
    (tmp_path / "0007").mkdir()
    (tmp_path / "0007" / "epoch-0001.pt").write_bytes(sealed(40))
    assert slim(tmp_path, 7, "nothing") == 40
    assert (tmp_path / "0007").is_dir()


def test_slimming_a_trial_without_a_folder_frees_nothing(trials):
    place, _ = trials
    assert slim(place, 3, "weights") == slim(place, 3, "nothing") == 0
    assert trial_files(place) == {}


@pytest.mark.parametrize("keep", LEFT)
@pytest.mark.parametrize("cut", range(5))
def test_interrupted_slimming_keeps_needed_files_and_is_completed_by_another_call(trials, keep, cut, monkeypatch):
    place, fill = trials
    fill(0)
    whole, done = (Folder.delete, Path.unlink)[isinstance(place, Path)], []

    def killed(*words, **more):
        if len(done) == cut:
            raise KeyboardInterrupt
        done.append(words)
        return whole(*words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(place) if isinstance(place, Folder) else Path, whole.__name__, killed)
        try:
            slim(place, 0, keep)
        except KeyboardInterrupt:
            assert len(done) == cut
    assert set(LEFT[keep]) <= set(trial_files(place)[0])
    slim(place, 0, keep)
    assert sorted(trial_files(place)[0]) == LEFT[keep]


def test_damaged_weights_do_not_replace_intact_ones(tmp_path):
    for name, size in TRIAL.items():
        (tmp_path / "0000").mkdir(exist_ok=True)
        (tmp_path / "0000" / name).write_bytes(sealed(size))
    (tmp_path / "0000" / "epoch-0003.pt").write_bytes(b"damaged")
    slim(tmp_path, 0, "weights")
    assert "epoch-0002.pt" in trial_files(tmp_path)[0]
    (tmp_path / "0000" / "epoch-0002.pt").write_bytes(b"damaged")
    before = trial_files(tmp_path)
    assert slim(tmp_path, 0, "weights") == 0  # nothing is whole: nothing goes
    assert trial_files(tmp_path) == before


def test_old_temporary_files_are_removed_and_recent_ones_kept(tmp_path):
    (tmp_path / "0000").mkdir()
    fresh, dead = (tmp_path / "0000" / name for name in ("epoch-0001.pt.1-a.partial", "epoch-0001.partial"))
    for path in (fresh, dead):
        path.write_bytes(b"half")
    os.utime(dead, (time.time() - 86400,) * 2)
    slim(tmp_path, 0, "nothing")
    assert [path.name for path in (tmp_path / "0000").iterdir()] == [fresh.name]


def test_only_checkpoint_file_names_have_an_epoch():
    for name in ("epoch-1.partial", "epoch-0001.pt.1-a.partial", "xepoch-0001.pt", "epoch-0001.ptx", "epoch-.pt"):
        assert epoch_of(name) is None
    assert epoch_of("epoch-12345.optimizer.pt") == weights_epoch("epoch-12345.pt") == 12345
    assert weights_epoch("epoch-0001.optimizer.pt") is None


def test_no_file_is_deleted_if_weights_are_to_be_kept_and_missing():
    assert surplus(["epoch-0001.optimizer.pt", "sample.npz"], "weights") == []

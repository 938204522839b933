"""The files of a trial's checkpoints: their names, their seal, and which may go once the trial has ended.

``epoch-0003.pt`` holds the weights after epoch 3 and what is known of them, ``epoch-0003.optimizer.pt`` what else it
takes to go on from there. Each ends with a SHA-256 of its content. So an ended trial is slimmed by deleting files,
without torch. (gaptune 0.1.0 wrote one file with everything, under the name of the first.)
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from gaptune.storage.atomic import PARTIAL, remove_stale
from gaptune.storage.folder import Folder

SAMPLE = "sample.npz"
DAMAGED = ".damaged"

Keep = Literal["weights", "sample", "nothing"]
"""What stays of an ended trial: weights and sample of features, the sample alone, or neither."""

_DIGEST = 32  # bytes of SHA-256 that end each file
_NAME = re.compile(r"epoch-(\d+)(\.optimizer)?\.pt")


def weights_name(epoch: int) -> str:
    """The file of the weights after an epoch."""
    return f"epoch-{epoch:04d}.pt"


def optimizer_name(epoch: int) -> str:
    """The file of what else it takes to go on after an epoch."""
    return f"epoch-{epoch:04d}.optimizer.pt"


def epoch_of(name: str) -> int | None:
    """The epoch of a file of either kind; None for other files."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def weights_epoch(name: str) -> int | None:
    """The epoch of a file of weights; None for other files."""
    epoch = epoch_of(name)
    return epoch if epoch is not None and name == weights_name(epoch) else None


def newest_weights(names: Iterable[str]) -> str | None:
    """The newest file of weights among some names; None if there is none."""
    epochs = [epoch for name in names if (epoch := weights_epoch(name)) is not None]
    return weights_name(max(epochs)) if epochs else None


def write_sealed(path: Path, content: bytes | memoryview) -> bytes:
    """Writes content and its seal to disk; see ``atomic.replacing`` for the name to write under.

    It waits for the disk, so that of the two files of a checkpoint none takes its place before the disk has both.

    Returns:
        The seal.

    Raises:
        OSError: The disk is full, say.
    """
    seal = hashlib.sha256(content).digest()
    with path.open("wb") as file:
        file.write(content)
        file.write(seal)
        file.flush()
        os.fsync(file.fileno())
    return seal


def read_sealed(path: Path) -> tuple[memoryview, bytes] | None:
    """The content of a sealed file and its seal; None if they do not fit.

    Raises:
        OSError: The file cannot be read.
    """
    whole = memoryview(path.read_bytes())
    content, seal = whole[:-_DIGEST], bytes(whole[-_DIGEST:])
    return (content, seal) if hashlib.sha256(content).digest() == seal else None


def surplus(names: Iterable[str], keep: Keep) -> list[str]:
    """Which files of an ended trial are not needed any more, in the order in which they may be removed.

    Args:
        names: Its files. Those that are no part of a checkpoint stay.
        keep: What is needed. Where no weights are there, nothing else goes for their sake.
    """
    names = sorted(names)
    newest = newest_weights(names) if keep == "weights" else None
    if keep == "weights" and newest is None:
        return []
    checkpoints = [name for name in names if epoch_of(name) is not None or name.endswith(DAMAGED)]
    samples = [SAMPLE] if SAMPLE in names and keep == "nothing" else []
    return [name for name in checkpoints if name != newest] + samples


def trial_files(trials: Path | Folder) -> dict[int, dict[str, int]]:
    """The sizes of all files of all trials, by number and name.

    Args:
        trials: The folder that holds a folder for each trial.

    Raises:
        OSError: It cannot be read.
    """
    sizes = trials.tree() if isinstance(trials, Folder) else _tree(trials)
    found: dict[int, dict[str, int]] = {}
    for path, size in sizes.items():
        number, _, name = path.partition("/")
        if number.isdecimal() and name and "/" not in name:
            found.setdefault(int(number), {})[name] = size
    return found


def slim(trials: Path | Folder, number: int, keep: Keep) -> int:
    """Removes what is not needed of an ended trial; its folder stays, so that its number is never given again.

    It only deletes, and never the newest weights that are whole if these are to be kept: whenever it is cut off, what
    is to be kept is there, and another call does the rest.

    Args:
        trials: The folder that holds a folder for each trial.
        number: The trial.
        keep: What is needed.

    Returns:
        Bytes freed.

    Raises:
        OSError: The place cannot be reached, or refuses.
    """
    name_of_folder = f"{number:04d}"
    if isinstance(trials, Folder):
        sizes = trials.tree(name_of_folder)
    else:
        folder = trials / name_of_folder
        remove_stale(folder)
        sizes = _tree(folder)
        while keep == "weights" and surplus(sizes, keep) and not _is_whole(folder, newest_weights(sizes)):
            del sizes[str(newest_weights(sizes))]  # it stays, and so does the newest that is whole
    freed = 0
    for name in surplus(sizes, keep):
        with suppress(FileNotFoundError):
            if isinstance(trials, Folder):
                trials.delete(f"{name_of_folder}/{name}")
            else:
                (folder / name).unlink()
            freed += sizes[name]
    return freed


def _is_whole(folder: Path, name: str | None) -> bool:
    return name is not None and read_sealed(folder / name) is not None


def _tree(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # its trial is under way
            if path.is_file() and path.suffix != PARTIAL:
                sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    return sizes

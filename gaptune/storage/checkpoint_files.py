"""The files of a trial's checkpoints: names, checksums, and which can be deleted once the trial has ended.

``epoch-0003.pt`` holds the weights after epoch 3 with their config and metrics; ``epoch-0003.optimizer.pt`` holds the
rest of the state that resuming needs. Each file ends with a SHA-256 of its content, its seal. Ended trials are slimmed
by deleting files, without torch. (gaptune 0.1.0 wrote everything to one file, ``epoch-0003.pt``.)
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
"""What to keep of an ended trial: the weights and the feature sample, only the sample, or nothing."""

_DIGEST = 32  # bytes of the SHA-256 at the end of each file
_NAME = re.compile(r"epoch-(\d+)(\.optimizer)?\.pt")


def weights_name(epoch: int) -> str:
    """Name of the weights file of an epoch."""
    return f"epoch-{epoch:04d}.pt"


def optimizer_name(epoch: int) -> str:
    """Name of the file with the rest of the state that resuming after an epoch needs."""
    return f"epoch-{epoch:04d}.optimizer.pt"


def epoch_of(name: str) -> int | None:
    """The epoch of a weights or optimizer file; None for other files."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def weights_epoch(name: str) -> int | None:
    """The epoch of a weights file; None for other files."""
    epoch = epoch_of(name)
    return epoch if epoch is not None and name == weights_name(epoch) else None


def newest_weights(names: Iterable[str]) -> str | None:
    """The newest weights file among file names; None if there is none."""
    epochs = [epoch for name in names if (epoch := weights_epoch(name)) is not None]
    return weights_name(max(epochs)) if epochs else None


def write_sealed(path: Path, content: bytes | memoryview) -> bytes:
    """Writes content and its seal to a temporary file (see ``atomic.replacing``) and syncs it to disk.

    The sync ensures that both files of a checkpoint are on disk before either is renamed.

    Returns:
        The seal.

    Raises:
        OSError: For example, the disk is full.
    """
    seal = hashlib.sha256(content).digest()
    with path.open("wb") as file:
        file.write(content)
        file.write(seal)
        file.flush()
        os.fsync(file.fileno())
    return seal


def read_sealed(path: Path) -> tuple[memoryview, bytes] | None:
    """The content of a sealed file and its seal; None if they do not match.

    Raises:
        OSError: The file cannot be read.
    """
    whole = memoryview(path.read_bytes())
    content, seal = whole[:-_DIGEST], bytes(whole[-_DIGEST:])
    return (content, seal) if hashlib.sha256(content).digest() == seal else None


def surplus(names: Iterable[str], keep: Keep) -> list[str]:
    """The files of an ended trial that are no longer needed, in the order in which to delete them.

    Args:
        names: File names in the trial's folder; files that are not part of a checkpoint are kept.
        keep: What to keep. If it is the weights and there are none, no file is deleted.
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
        trials: Folder with one folder per trial.

    Raises:
        OSError: The folder cannot be read.
    """
    sizes = trials.tree() if isinstance(trials, Folder) else _tree(trials)
    found: dict[int, dict[str, int]] = {}
    for path, size in sizes.items():
        number, _, name = path.partition("/")
        if number.isdecimal() and name and "/" not in name:
            found.setdefault(int(number), {})[name] = size
    return found


def slim(trials: Path | Folder, number: int, keep: Keep) -> int:
    """Deletes the files of an ended trial that are not needed; its folder stays, so that its number is not reused.

    The newest intact weights are never deleted if weights are to be kept. An interrupted call therefore loses
    nothing, and another call completes it.

    Args:
        trials: Folder with one folder per trial.
        number: Number of the trial.
        keep: What to keep.

    Returns:
        Number of bytes freed.

    Raises:
        OSError: The storage is unreachable or denies access.
    """
    name_of_folder = f"{number:04d}"
    if isinstance(trials, Folder):
        sizes = trials.tree(name_of_folder)
    else:
        folder = trials / name_of_folder
        remove_stale(folder)
        sizes = _tree(folder)
        while keep == "weights" and surplus(sizes, keep) and not _is_whole(folder, newest_weights(sizes)):
            del sizes[str(newest_weights(sizes))]  # keep the damaged file, and the newest intact one too
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
        with suppress(FileNotFoundError):  # its trial is running
            if path.is_file() and path.suffix != PARTIAL:
                sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    return sizes

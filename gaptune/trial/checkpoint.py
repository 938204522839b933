"""Checkpoints: written atomically and checked when read; the one before is kept in case the newest is damaged."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import torch
from torch import Tensor

from gaptune.config import HEAD_DEFAULTS
from gaptune.errors import UserError
from gaptune.ledger.schema1 import config_text
from gaptune.storage.atomic import remove_stale, replacing
from gaptune.storage.checkpoint_files import (
    DAMAGED,
    SAMPLE,
    epoch_of,
    optimizer_name,
    read_sealed,
    weights_epoch,
    weights_name,
    write_sealed,
)
from gaptune.text.renamed import metric_name

FORMAT = 5
"""Format of new checkpoints. Those before 5 lack the fields of ``_ADDED`` in ``config``, except that those of format 4
have ``evaluate_every`` and those of heads. Those before 3 have names of ledger schema 1 in ``config`` and ``report``.
Those before 2 have neither this number nor what belongs to the weights.
"""

_ADDED: dict[str, dict[str, Any]] = {
    "training": {
        "evaluate_every": 1,
        "micro_batch": None,
        "grad_checkpointing": False,
        "deterministic": False,
        "compile": False,
    },
    "model": dict.fromkeys(HEAD_DEFAULTS),
}
"""What the fields that formats 4 and 5 added to the configuration are in earlier checkpoints, by group."""

_KEEP = 2
_KEYS = {"config", "data", "report", "model", "scale"}
_REPORT_KEYS = {"epoch", "step", "metrics"}
_OPTIMIZER = "optimizer"
_KNOWN = {*_KEYS, _OPTIMIZER, "architecture", "format"}
_ZIP_END, _BEHIND = b"PK\x05\x06", 22 + 32  # where a torch file ends, and the bytes from there: record and seal

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one trial, of which the newest two are kept.

    Args:
        folder: Where they are; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Writes a checkpoint; until it is whole, under other names.

        Args:
            epoch: Epochs trained.
            state: Tensors, numbers, texts, and lists and mappings of them. ``optimizer`` goes to a file of its own, so
                that it can be removed when the trial has ended; without it no training can be resumed from here.

        Raises:
            OSError: The disk is full, say. The checkpoints before are as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_stale(self.folder)
        weights = self.folder / weights_name(epoch)
        optimizer = self.folder / optimizer_name(epoch)
        weights_only = {name: value for name, value in state.items() if name != _OPTIMIZER}
        with replacing(weights) as half:  # in place last: the weights say that a checkpoint is there
            seal = _write(half, {"format": FORMAT, **weights_only})
            if _OPTIMIZER in state:
                with replacing(optimizer) as other_half:
                    _write(other_half, {"weights": seal.hex(), _OPTIMIZER: state[_OPTIMIZER]})
        oldest = min([other for other in self._weights() if other <= epoch][:_KEEP])
        for path in self.folder.iterdir():
            its = epoch_of(path.name)
            if its is not None and its < oldest:
                path.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint whose weights are whole, without its optimizer; None if there is none.

        A damaged one is logged and skipped.

        Raises:
            UserError: A newer gaptune wrote it.
        """
        damaged: list[Path] = []
        found = None
        for path in self._weights().values():
            found = _read_state(path)
            if found is not None:
                break
            damaged.append(path)
        then = "no other is whole" if found is None else f"epoch {found.state['report']['epoch']} is used"
        for path in damaged:
            log.warning("checkpoint %s is damaged; %s", path, then)
        return found and found.state

    def resume(self, identity: str, epochs: int) -> dict[str, Any] | None:
        """The newest checkpoint from which a training can be resumed; None if there is none.

        A damaged one is logged and renamed.

        Args:
            identity: Required value of ``config`` in the states.
            epochs: Epochs of the whole training. The checkpoint after the last one needs no optimizer.

        Raises:
            UserError: The checkpoints are of another training, or a newer gaptune wrote them.
        """
        damaged: list[Path] = []
        state = None
        for epoch, path in self._weights().items():
            found = _read_state(path)
            if found is None:
                damaged.append(path)
                continue
            if found.state["config"] != identity:
                raise UserError("the checkpoints here are of another configuration or other data; give another folder")
            if _OPTIMIZER not in found.state and epoch < epochs:  # 0.1.0 wrote one file with both
                rest = self.folder / optimizer_name(epoch)
                optimizer = _read(rest) if rest.exists() else None
                if (
                    optimizer is None
                    or _OPTIMIZER not in optimizer.state
                    or optimizer.state.get("weights") != found.seal.hex()
                ):
                    damaged.append(rest)
                    continue
                found.state[_OPTIMIZER] = optimizer.state.get(_OPTIMIZER)
            state = found.state
            break
        then = "the training starts anew" if state is None else f"epoch {state['report']['epoch']} is used"
        for path in damaged:
            log.warning("checkpoint %s is %s; %s", path, _set_aside(path), then)
        return state

    def _weights(self) -> dict[int, Path]:
        """The files of weights by epoch, newest first."""
        found = {
            epoch: path for path in self.folder.glob("epoch-*.pt") if (epoch := weights_epoch(path.name)) is not None
        }
        return dict(sorted(found.items(), reverse=True))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds a folder of checkpoints, so that no other process trains there.

    Within a process, an abandoned training does not block the next one.

    Raises:
        UserError: Another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / "train.lock", timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"another process trains in {folder}; wait for it, or give another folder") from None
    try:
        yield
    finally:
        lock.release()


def save_sample(folder: Path, images: Tensor, texts: Tensor) -> None:
    """Writes a few pairs of features beside the checkpoints, as ``sample.npz`` in float16, for plots."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / SAMPLE) as half, half.open("wb") as file:
        np.savez(file, images=images.half().cpu().numpy(), texts=texts.half().cpu().numpy())


def read_checkpoint(place: Path) -> dict[str, Any]:
    """The weights and what is known of them in a checkpoint, or in the newest whole one of a folder.

    Raises:
        UserError: There is none, it is damaged, or a newer gaptune wrote it.
    """
    if not place.exists():
        raise UserError(f"there is no checkpoint {place}")
    try:
        if place.is_dir():
            state = Checkpoints(place).load()
        else:
            found = _read_state(place)
            state = found and found.state
    except OSError as error:
        raise UserError(f"{place} cannot be read: {error.strerror}") from None
    if state is None:
        raise UserError(f"{place} {'holds no whole checkpoint' if place.is_dir() else 'is no whole checkpoint'}")
    return state


def is_checkpoint(path: Path) -> bool:
    """Whether a file is, or by its name should be, a checkpoint of a trial, whatever it is called now."""
    if path.suffix == ".pt" and path.name.startswith("epoch-"):
        return True
    with path.open("rb") as file:
        if file.seek(0, 2) < _BEHIND:
            return False
        file.seek(-_BEHIND, 2)
        return file.read(len(_ZIP_END)) == _ZIP_END and read_sealed(path) is not None


def optimizer_bytes(path: Path) -> int:
    """How large the optimizer in the same file as the weights is; nothing but its index is read for that.

    Returns:
        0 where there is none: only gaptune 0.1.0 wrote it there; also 0 for what is no checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        tensors = [value for each in state[_OPTIMIZER]["state"].values() for value in each.values()]
    except Exception:  # of zip or pickle, or no such entry
        return 0
    return sum(value.nbytes for value in tensors if isinstance(value, Tensor))


def without_optimizer(path: Path) -> None:
    """Replaces a checkpoint of gaptune 0.1.0, which has its optimizer in the same file, by one without, in one step.

    One that is damaged, is newer than this gaptune, or has none, stays as it is.
    """
    try:
        found = _read_state(path)
    except UserError:
        return
    if found is None or found.state.pop(_OPTIMIZER, None) is None:
        return
    with replacing(path) as half:
        _write(half, found.state)


def _write(path: Path, state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return write_sealed(path, buffer.getbuffer())


class _Found(NamedTuple):
    state: dict[str, Any]
    seal: bytes


def _read_state(path: Path) -> _Found | None:
    """What is in a file of weights; None if it is damaged.

    Raises:
        UserError: A newer gaptune wrote it.
    """
    found = _read(path)
    if found is None:
        return None
    _check_format(found.state, path)
    if not found.state.keys() >= _KEYS:
        return None
    report = found.state["report"]
    if not (isinstance(report, dict) and report.keys() == _REPORT_KEYS and isinstance(report["epoch"], int)):
        return None
    try:
        return _Found(_translated(found.state), found.seal)
    except (KeyError, ValueError, TypeError, AttributeError):  # a configuration or metrics of another kind
        return None


def _translated(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of an earlier format with the names and fields of today."""
    if state.get("format", 1) >= FORMAT:
        return state
    report, config = state["report"], json.loads(config_text(state["config"]))
    config |= {group: {**added, **config[group]} for group, added in _ADDED.items() if group in config}
    metrics = {metric_name(name): value for name, value in report["metrics"].items()}
    return {**state, "config": json.dumps(config, sort_keys=True), "report": {**report, "metrics": metrics}}


def _check_format(state: dict[str, Any], path: Path) -> None:
    """Refuses what a newer gaptune wrote: by its number, or by what this one does not know."""
    number = state.get("format", 1)
    if type(number) is not int or number > FORMAT:
        raise UserError(
            f"{path} was written by a newer gaptune (format {number}; this one reads up to {FORMAT}); update gaptune"
        )
    unknown = sorted(map(str, state.keys() - _KNOWN))
    if unknown and state.keys() >= _KEYS:
        raise UserError(
            f"{path} was written by another gaptune: this one does not know {', '.join(unknown)}; update gaptune"
        )


def _read(path: Path) -> _Found | None:
    """The mapping in a sealed file; None if it is damaged."""
    sealed = read_sealed(path)
    if sealed is None:
        return None
    try:
        state = torch.load(io.BytesIO(sealed[0]), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # of zip or pickle: whatever a good seal around bad content leads to
        return None
    return _Found(state, sealed[1]) if isinstance(state, dict) else None


def _set_aside(path: Path) -> str:
    """Gives a damaged file another name; says what has become of it."""
    if not path.exists():
        return "not there"
    target, count = path.with_name(path.name + DAMAGED), 1
    while target.exists():
        count += 1
        target = path.with_name(f"{path.name}.{count}{DAMAGED}")
    path.replace(target)
    return f"damaged, and kept as {target.name}"

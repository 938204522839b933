"""One CLIP training as a generator of reports."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaptune.config import TrialConfig
from gaptune.data import Split, Store, StoreMeta
from gaptune.data.open import open_store
from gaptune.errors import UserError
from gaptune.trial.architecture import model_of_state
from gaptune.trial.augment import augment
from gaptune.trial.build_model import make_model
from gaptune.trial.checkpoint import Checkpoints, save_sample
from gaptune.trial.embed import Progress, silent
from gaptune.trial.evaluate import Evaluator
from gaptune.trial.loss import NonFinite, clip_loss
from gaptune.trial.model import Clip
from gaptune.trial.optim import clip_gradients, lr_factor, make_optimizer, set_lr
from gaptune.trial.order import epoch_order
from gaptune.trial.streams import generator, global_seed
from gaptune.trial.suite import Suite
from gaptune.trial.swap import swap, swaps_at
from gaptune.trial.temperature import LogitScale

_REMEMBERED = ("name", "image_size", "context_length", "content_hash", "vocabulary", "features")
"""What a checkpoint holds of its training data's ``StoreMeta``, for its model to be built without them."""

_MISFIT = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)
"""What reading a checkpoint with a good seal and bad content leads to."""


@dataclass(frozen=True)
class Report:
    """What is known after an epoch.

    Attributes:
        epoch: Epochs trained, from 1.
        step: Steps trained.
        metrics: Scores by their names in ``gaptune.metrics.table``, those of ``evaluate`` by its names too; all finite.
    """

    epoch: int
    step: int
    metrics: dict[str, float]


def train(
    config: TrialConfig,
    store: Store,
    *,
    checkpoints: Path | None = None,
    progress: Progress = silent,
    weights: str | None = None,
) -> Iterator[Report]:
    """Trains a CLIP and yields a report after each epoch.

    Everything random is decided by ``config.seed`` and a position, so trials of one seed start from the same weights
    and see the same batches whatever their other parameters, and a training that goes on from a checkpoint ends with
    the same weights as one that ran through.

    Args:
        config: The trial.
        store: Its data.
        checkpoints: A folder for checkpoints, one per epoch. If it holds one, the training goes on
            from there: first comes the checkpoint's own report again, in case nobody heard it, then the rest.
        progress: Called after each step, and after each batch that is evaluated.
        weights: The hash of the weights that it must start from; None for any.

    Yields:
        A report per epoch.

    Raises:
        NonFinite: The loss, a feature or a score is not finite.
        UserError: Model and data do not fit, the store has no ``train`` or no ``val``, the batch is larger than the
            data, the weights are not those that they must be, or the checkpoints are of another configuration or other
            data.
    """
    trial = _Trial(config, store, progress)
    if weights is not None and trial.model.weights_hash != weights:
        raise UserError(f"{config.model.pretrained} no longer holds the weights that the sweep began with")
    kept = Checkpoints(checkpoints) if checkpoints is not None else None
    state = kept.resume(trial.identity, config.training.epochs) if kept is not None else None
    done = 0
    if state is not None:
        done = trial.restore(state)
        yield Report(**state["report"])
    for epoch in range(done, config.training.epochs):
        report = trial.epoch(epoch)
        if kept is not None:
            last = epoch + 1 == config.training.epochs
            if last:
                save_sample(kept.folder, *trial.sample())
            kept.save(epoch + 1, trial.state(report, goes_on=not last))
        yield report


class _Trial:
    """Model, optimizer and data of a training under way."""

    def __init__(self, config: TrialConfig, store: Store, progress: Progress = silent) -> None:
        self._progress = progress
        store.check_trainable()
        mine = tuple(evaluation for evaluation in config.evaluate if evaluation.when != "front")
        self._config = config = config.model_copy(update={"evaluate": mine})
        self._device = torch.device(pick_device(config.device))
        self._data: Split = store.split("train")
        self._batch = config.training.batch_size
        if self._batch > len(self._data):
            raise UserError(f"batch_size {self._batch} is more than the {len(self._data)} training images")
        self._per_epoch = len(self._data) // self._batch
        self._steps = self._per_epoch * config.training.epochs
        with global_seed(config.seed, self._device):
            model = make_model(config.model, store.meta)
        self.model = model.to(self._device).to(memory_format=torch.channels_last).train()
        self.scale = LogitScale(config.temperature).to(self._device)
        self.optimizer = make_optimizer(self.model, self.scale.nu, config)
        self._evaluate = Evaluator(store, self._device, config.training.precision, progress)
        sizes = {"image_size": self.model.image_size, "context_length": self.model.context_length}
        further = [(each, open_store(each.data, **sizes)) for each in config.evaluate]
        self._suites = [
            (each, Suite(data, each.tasks, self._device, config.training.precision, progress)) for each, data in further
        ]
        self._store = store
        self.identity = _identity(config, store, [data for _, data in further], model.weights_hash)

    def epoch(self, epoch: int) -> Report:
        """Trains an epoch (counted from 0) and evaluates."""
        started = time.perf_counter()
        order = epoch_order(self._data, self._stream("order", epoch), self._batch)
        which = torch.rand(len(self._data), generator=self._stream("caption", epoch)).numpy()
        losses, swapped = 0.0, 0
        with global_seed(self._stream("dropout", epoch).initial_seed(), self._device):
            for index in range(self._per_epoch):
                step = epoch * self._per_epoch + index
                drawn = slice(index * self._batch, (index + 1) * self._batch)
                loss, was_swapped = self._step(step, order[drawn], which[drawn])
                losses += loss
                swapped += was_swapped
                self._progress()
        self._check_weights(epoch)
        trained = time.perf_counter()
        scores = self._evaluate(self.model)
        for evaluation, suite in self._suites:
            if evaluation.when == "epoch" or epoch + 1 == self._config.training.epochs:
                values = suite(self.model)
                scores |= {f"{evaluation.name}/{name}": float(each.mean()) for name, each in values.items()}
        step = (epoch + 1) * self._per_epoch
        tau = self.scale.tau(Fraction(step, self._steps))
        metrics = {
            **scores,
            "temperature/tau": tau,
            "temperature/beta": 1.0 / tau,
            "train/loss": losses / self._per_epoch,
            "train/lr": self._config.optimizer.lr * self._lr_factor(step - 1),
            "train/swapped_fraction": swapped / self._per_epoch,
            "time/train_s": trained - started,
            "time/eval_s": time.perf_counter() - trained,
            "time/samples_per_s": self._per_epoch * self._batch / (trained - started),
        }
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise NonFinite(f"{', '.join(bad)} after epoch {epoch + 1}")
        return Report(epoch + 1, step, metrics)

    def _step(self, step: int, rows: np.ndarray[Any, Any], which: np.ndarray[Any, Any]) -> tuple[float, bool]:
        """One update; returns the loss before it, and whether features were swapped."""
        params = self._config
        images, tokens = self._pairs(rows, which)
        set_lr(self.optimizer, self._lr_factor(step))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=params.training.precision == "bf16"):
            pixels = augment(self.model.pixels(images), params.augment, self.model.image_size, params.seed, step)
            x, y = self.model.image_features(pixels), self.model.text_features(tokens)
        swapping = swaps_at(params.swap, params.seed, step, self._steps)
        if swapping:
            x, y = swap(x, y, params.swap, params.seed, step)
        loss = clip_loss(x, y, self.scale(Fraction(step, self._steps)))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFinite(f"loss {value} at step {step}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = clip_gradients(self.optimizer, params.optimizer.clip_norm)
        if not math.isfinite(norm):  # clipping by it makes every gradient 0, and so does dividing by its square
            raise NonFinite(f"the gradient's norm is {norm} at step {step}")
        self.optimizer.step()
        self.scale.clamp()
        return value, swapping

    def _check_weights(self, epoch: int) -> None:
        """Looks at all weights: a row of the embedding that no batch reads any more shows in no loss."""
        weights = {**dict(self.model.tower.named_parameters()), "nu": self.scale.nu}
        bad = [name for name, weight in weights.items() if not weight.isfinite().all()]
        if bad:
            raise NonFinite(f"weights after epoch {epoch + 1}: {', '.join(bad[:3])}{', …' if len(bad) > 3 else ''}")

    def _pairs(self, rows: np.ndarray[Any, Any], which: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        """Images of some rows, each with the caption that ``which``, in [0, 1), picks among its own."""
        first = self._data.offsets[rows]
        count = self._data.offsets[rows + 1] - first
        tokens = self._data.tokens[first + (which * count).astype(np.int64)].astype(np.int64)
        return self._to_device(self._data.gather(rows)), self._to_device(tokens)

    def _to_device(self, array: np.ndarray[Any, Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":  # pinned, so that the copy runs beside the computation
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)

    def _lr_factor(self, step: int) -> float:
        return lr_factor(step, self._steps, self._config.optimizer.warmup)

    def _stream(self, use: str, position: int) -> torch.Generator:
        return generator(self._config.seed, use, position)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Features of some validation pairs, to look at: images and texts."""
        return self._evaluate.sample(self.model)

    def state(self, report: Report, *, goes_on: bool) -> dict[str, Any]:
        """The weights after a report and what is known of them; with the optimizer if the training is to go on."""
        state = {
            "config": self.identity,
            "data": {name: getattr(self._store.meta, name) for name in _REMEMBERED},
            "report": asdict(report),
            "architecture": self.model.architecture and self.model.architecture.to_dict(),
            "model": self.model.tower.state_dict(),
            "scale": self.scale.state_dict(),
        }
        return {**state, "optimizer": self.optimizer.state_dict()} if goes_on else state

    def restore(self, state: dict[str, Any]) -> int:
        """Takes up a state; returns the epochs that it has behind it."""
        try:
            self.model.tower.load_state_dict(state["model"])
            self.scale.load_state_dict(state["scale"])
            if "optimizer" in state:
                self.optimizer.load_state_dict(state["optimizer"])
        except torch.OutOfMemoryError:
            raise
        except _MISFIT as error:
            raise UserError(f"the newest checkpoint does not fit its model: {_one_line(error)}") from None
        return int(state["report"]["epoch"])


def trained_model(state: dict[str, Any], device: str = "auto") -> tuple[Clip, str]:
    """The model in a checkpoint's state, on its device, and the precision that it was trained in.

    Raises:
        UserError: Its content does not fit together; or there is no such device.
    """
    try:
        given, data = model_of_state(state), StoreMeta(**state["data"], splits={})
        model, precision = make_model(given, data, state=state), json.loads(state["config"])["training"]["precision"]
        model.tower.load_state_dict(state["model"])
    except _MISFIT as error:
        raise UserError(f"the checkpoint does not hold the model that it names: {_one_line(error)}") from None
    return model.to(pick_device(device)).to(memory_format=torch.channels_last), precision


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def pick_device(wanted: str) -> str:
    """A device by what a configuration says, which may be ``auto``.

    Raises:
        UserError: There is no such device.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda, but torch sees no GPU here")
    return wanted


def _identity(config: TrialConfig, store: Store, further: list[Store], weights: str | None) -> str:
    """What must be the same for a checkpoint to fit: everything but where it runs and where data and weights lie."""
    params = config.model_dump(exclude={"device": True, "data": True, "evaluate": {"__all__": {"data"}}})
    if weights is not None:
        params["model"]["pretrained"] = f"sha256:{weights}"
    hashes = {"data": store.meta.content_hash, "further": [data.meta.content_hash for data in further]}
    return json.dumps({**params, **hashes}, sort_keys=True)

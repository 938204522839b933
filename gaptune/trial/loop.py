"""One training as a generator of reports."""

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
from gaptune.data.store.columns import feature_meta
from gaptune.errors import UserError
from gaptune.ledger.state import next_report
from gaptune.storage.outcomes import RetrievalOutcomes
from gaptune.trial.architecture import model_of_state
from gaptune.trial.build_model import make_model
from gaptune.trial.checkpoint import Checkpoints, save_sample
from gaptune.trial.device import numerics, pick_device
from gaptune.trial.embed import Progress, silent
from gaptune.trial.encoder import Augmentation, DualEncoder
from gaptune.trial.evaluate import Evaluator, Where
from gaptune.trial.loss import NonFinite, clip_loss
from gaptune.trial.optim import clip_gradients, lr_factor, make_optimizer, set_lr
from gaptune.trial.order import epoch_order
from gaptune.trial.pairs import pairs_of
from gaptune.trial.streams import generator, global_seed
from gaptune.trial.swap import swap, swaps_at
from gaptune.trial.temperature import LogitScale

_REMEMBERED = ("name", "image_size", "context_length", "content_hash", "vocabulary", "features")
"""What a checkpoint holds of its training data's ``StoreMeta``, so that its model is built without the data."""

_MISFIT = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)
"""Errors from reading a checkpoint that has a valid seal and bad content."""


@dataclass(frozen=True)
class Report:
    """Metrics of a training so far.

    Attributes:
        epoch: Epochs trained, from 1.
        step: Steps trained.
        metrics: Values by their names in ``gaptune.metrics.table``, those of an evaluation after its name; all finite.
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
    """Trains a model and yields a report after every ``training.evaluate_every`` epochs, and after the last.

    Every random draw is determined by ``config.seed`` and a position. So trials of one seed start from the same weights
    and see the same batches whatever their other parameters, and a resumed training ends with the same weights as one
    that ran through.

    Args:
        config: Configuration of the trial.
        store: Training data.
        checkpoints: Folder for checkpoints, one per report. If it holds one, the training resumes from there: the
            checkpoint's own report is yielded first, in case nobody has received it, then the rest.
        progress: Called after each step, and after each batch that is evaluated.
        weights: Hash of the weights that it must start from; None for any.

    Yields:
        The reports.

    Raises:
        NonFinite: The loss, a feature or a metric is not finite.
        UserError: Model and data do not fit, the store has no ``train`` or no ``val``, the batch is larger than the
            data, the initial weights are not the required ones, or the checkpoints belong to another configuration or
            other data.
    """
    training = Training(config, store, progress)
    if weights is not None and training.model.weights_hash != weights:
        raise UserError(f"{config.model.pretrained} no longer holds the weights that the sweep began with")
    kept = Checkpoints(checkpoints) if checkpoints is not None else None
    state = kept.resume(training.identity, config.training.epochs) if kept is not None else None
    done = 0
    if state is not None:
        done = training.restore(state)
        yield Report(**state["report"])
    epochs = config.training.epochs
    while done < epochs:
        before, done = done, next_report(done + 1, epochs, config.training.evaluate_every)
        report = training.epochs(before, done)
        if kept is not None:
            if done == epochs:
                save_sample(kept.folder, *training.sample())
                training.outcomes().save(kept.folder)
            kept.save(done, training.state(report, resumable=done < epochs))
        yield report


class Training:
    """Model, optimizer and data of a training.

    Args:
        config: Configuration of the trial.
        store: Training data.
        progress: Called after each step, and after each batch that is evaluated.

    Attributes:
        model: The model.
        scale: The temperature.
        optimizer: The optimizer of both.
        identity: What a checkpoint must agree with to be resumed.

    Raises:
        UserError: As for ``train``.
    """

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
        sizes = {"image_size": self.model.image_size, "context_length": self.model.context_length}
        further = [(each, open_store(each.data, **sizes)) for each in config.evaluate]
        self._pairs = pairs_of(self.model, self._data, self._device)
        self._evaluator = Evaluator(store, further, Where(self._device, config.training.precision, progress))
        self._store = store
        self.identity = _identity(config, store, [data for _, data in further], model.weights_hash)

    def epochs(self, before: int, after: int) -> Report:
        """Continues from one number of epochs to another, and evaluates."""
        started = time.perf_counter()
        losses, swapped = zip(*map(self._train, range(before, after)), strict=True)
        self._check_weights(after)
        trained = time.perf_counter()
        measured = self._evaluator(self.model, last=after == self._config.training.epochs)
        count, step = after - before, after * self._per_epoch
        metrics = {**measured, **self._progress_metrics(step, sum(losses) / count, sum(swapped) / count)}
        metrics |= {
            "time/train_s": trained - started,
            "time/eval_s": time.perf_counter() - trained,
            "time/samples_per_s": count * self._per_epoch * self._batch / (trained - started),
        }
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise NonFinite(f"{', '.join(bad)} after epoch {after}")
        return Report(after, step, metrics)

    def _train(self, epoch: int) -> tuple[float, float]:
        """All steps of an epoch; returns the mean loss and the fraction of the steps with swapped features."""
        order = epoch_order(self._data, self._stream("order", epoch), self._batch)
        which = torch.rand(len(self._data), generator=self._stream("caption", epoch)).numpy()
        losses, swapped = 0.0, 0
        seeded = global_seed(self._stream("dropout", epoch).initial_seed(), self._device)
        with seeded, numerics(self._config.training, self._device):
            for index in range(self._per_epoch):
                drawn = slice(index * self._batch, (index + 1) * self._batch)
                loss, was_swapped = self._step(epoch * self._per_epoch + index, order[drawn], which[drawn])
                losses += loss
                swapped += was_swapped
                self._progress()
        return losses / self._per_epoch, swapped / self._per_epoch

    def _step(self, step: int, rows: np.ndarray[Any, Any], which: np.ndarray[Any, Any]) -> tuple[float, bool]:
        """One update; returns the loss before it, and whether features were swapped."""
        config = self._config
        set_lr(self.optimizer, self._lr_factor(step))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=config.training.precision == "bf16"):
            x, y = self._pairs(rows, which, Augmentation(config.augment, config.seed, step))
        swapping = swaps_at(config.swap, config.seed, step, self._steps)
        if swapping:
            x, y = swap(x, y, config.swap, config.seed, step)
        loss = clip_loss(x, y, self.scale(Fraction(step, self._steps)))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFinite(f"loss {value} at step {step}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = clip_gradients(self.optimizer, config.optimizer.clip_norm)
        if not math.isfinite(norm):  # clipping by it makes every gradient 0, and so does dividing by its square
            raise NonFinite(f"the gradient's norm is {norm} at step {step}")
        self.optimizer.step()
        self.scale.clamp()
        return value, swapping

    def _progress_metrics(self, step: int, loss: float, swapped: float) -> dict[str, float]:
        """Loss and schedules after ``step`` steps."""
        tau = self.scale.tau(Fraction(step, self._steps))
        return {
            "temperature/tau": tau,
            "temperature/beta": 1.0 / tau,
            "train/loss": loss,
            "train/lr": self._config.optimizer.lr * self._lr_factor(step - 1),
            "train/swapped_fraction": swapped,
        }

    def _check_weights(self, epochs: int) -> None:
        """Checks all weights: a row of the embedding that no batch reads affects no loss."""
        weights = {**dict(self.model.tower.named_parameters()), "nu": self.scale.nu}
        bad = [name for name, weight in weights.items() if not weight.isfinite().all()]
        if bad:
            raise NonFinite(f"weights after epoch {epochs}: {', '.join(bad[:3])}{', …' if len(bad) > 3 else ''}")

    def _lr_factor(self, step: int) -> float:
        return lr_factor(step, self._steps, self._config.optimizer.warmup)

    def _stream(self, use: str, position: int) -> torch.Generator:
        return generator(self._config.seed, use, position)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Features of some validation pairs, for plots: images and texts."""
        return self._evaluator.sample(self.model)

    def outcomes(self) -> RetrievalOutcomes:
        """What each validation image and caption counts in retrieval, for tests over photographs."""
        return self._evaluator.outcomes(self.model)

    def state(self, report: Report, *, resumable: bool) -> dict[str, Any]:
        """The content of a checkpoint after a report; the optimizer only if the training can be resumed from it."""
        meta = asdict(self._store.meta)
        state = {
            "config": self.identity,
            "data": {name: meta[name] for name in _REMEMBERED},
            "report": asdict(report),
            "architecture": self.model.architecture and self.model.architecture.to_dict(),
            "model": self.model.tower.state_dict(),
            "scale": self.scale.state_dict(),
        }
        return {**state, "optimizer": self.optimizer.state_dict()} if resumable else state

    def restore(self, state: dict[str, Any]) -> int:
        """Continues from a checkpoint's content; returns the epochs that it was trained for."""
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


def trained_model(state: dict[str, Any], device: str = "auto") -> tuple[DualEncoder, str]:
    """The model in a checkpoint, on a device, and the precision that it was trained in.

    Raises:
        UserError: The content of the checkpoint is inconsistent; or there is no such device.
    """
    try:
        features = feature_meta(state["data"].get("features"))
        given, data = model_of_state(state), StoreMeta(**{**state["data"], "features": features}, splits={})
        model, precision = make_model(given, data, state=state), json.loads(state["config"])["training"]["precision"]
        model.tower.load_state_dict(state["model"])
    except _MISFIT as error:
        raise UserError(f"the checkpoint does not hold the model that it names: {_one_line(error)}") from None
    return model.to(pick_device(device)).to(memory_format=torch.channels_last), precision


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _identity(config: TrialConfig, store: Store, further: list[Store], weights: str | None) -> str:
    """What a checkpoint must agree with: everything but the device and the location of data and weights."""
    params = config.model_dump(exclude={"device": True, "data": True, "evaluate": {"__all__": {"data"}}})
    if weights is not None:
        params["model"]["pretrained"] = f"sha256:{weights}"
    hashes = {"data": store.meta.content_hash, "further": [data.meta.content_hash for data in further]}
    return json.dumps({**params, **hashes}, sort_keys=True)

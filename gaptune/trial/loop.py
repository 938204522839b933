"""One training as a generator of reports."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from gaptune.config import TrialConfig
from gaptune.data import Store, StoreMeta
from gaptune.data.open import open_store
from gaptune.data.store.columns import feature_meta
from gaptune.errors import UserError
from gaptune.ledger.state import next_report
from gaptune.trial.architecture import model_of_state
from gaptune.trial.batch_norm import synchronize
from gaptune.trial.build_model import make_model
from gaptune.trial.checkpoint import Checkpoints, save_sample
from gaptune.trial.compiling import compile_towers
from gaptune.trial.device import numerics, pick_device
from gaptune.trial.embed import Progress, silent
from gaptune.trial.encoder import DualEncoder
from gaptune.trial.evaluate import Evaluator, Where
from gaptune.trial.feed import feed_of
from gaptune.trial.gpu_memory import is_out_of_memory
from gaptune.trial.loss import NonFinite
from gaptune.trial.optim import align_state, make_optimizer
from gaptune.trial.plan import Planner
from gaptune.trial.ranks import ALONE, Ranks
from gaptune.trial.recompute import checkpoint_gradients
from gaptune.trial.saver import Report, Saver
from gaptune.trial.step import Taken, Updates
from gaptune.trial.streams import global_seed
from gaptune.trial.temperature import LogitScale

_REMEMBERED = ("name", "image_size", "context_length", "content_hash", "vocabulary", "features")
"""What a checkpoint holds of its training data's ``StoreMeta``, so that its model is built without the data."""

_MISFIT = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)
"""Errors from reading a checkpoint that has a valid seal and bad content."""


def train(
    config: TrialConfig,
    store: Store,
    *,
    checkpoints: Path | None = None,
    progress: Progress = silent,
    weights: str | None = None,
    ranks: Ranks = ALONE,
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
        ranks: The processes that train the model (``ranks.join``). Each calls this with the same arguments, iterates to
            the same report, and gets the reports of rank 0, which alone uses ``checkpoints``; these can be resumed by
            any number of ranks. Between two reports, no rank may stop.

    Yields:
        The reports.

    Raises:
        NonFinite: The loss, a feature or a metric is not finite.
        UserError: Model and data do not fit, the store has no ``train`` or no ``val``, the batch is larger than the
            data, the initial weights are not the required ones, or the checkpoints belong to another configuration or
            other data; or the model cannot be trained by several ranks, or the batch has fewer pairs than there are.
        RankLost: The process of another rank has ended.
    """
    training = Training(config, store, progress, ranks)
    training.check_start(weights)
    training.align()
    kept = Checkpoints(checkpoints) if checkpoints is not None and ranks.rank == 0 else None
    keeping = ranks.told(kept is not None)
    state = ranks.from_first(
        lambda: kept.resume(training.identity, config.training.epochs) if kept is not None else None
    )
    done = 0
    if state is not None:
        done = training.restore(state)
        yield Report(**state["report"])
    with Saver(kept, beside=training.device.type == "cuda", ranks=ranks) as saver:
        while done < config.training.epochs:
            before, done = done, next_report(done + 1, config.training.epochs, config.training.evaluate_every)
            for _ in training.steps(before, done):
                yield from saver.saved()
            yield from saver.saved(wait=True)
            report = training.report(before, done)
            last = done == config.training.epochs
            if keeping and last:
                training.save_outcomes(kept.folder if kept is not None else None)
            saver.save(report, training.state(report, resumable=not last))
            yield from saver.saved()
        yield from saver.saved(wait=True)


class Training:
    """Model, optimizer and data of a training.

    Args:
        config: Configuration of the trial.
        store: Training data.
        progress: Called after each step, and after each batch that is evaluated.
        ranks: The processes that train the model.

    Attributes:
        model: The model.
        scale: The temperature.
        optimizer: The optimizer of both.
        device: Where they are.
        planner: Plans the steps.
        feed: The batches of the steps.
        updates: Takes the steps.
        train_s: Seconds of training since the last report.
        identity: What a checkpoint must agree with to be resumed.

    Raises:
        UserError: As for ``train``.
    """

    def __init__(self, config: TrialConfig, store: Store, progress: Progress = silent, ranks: Ranks = ALONE) -> None:
        self._progress = progress
        self._ranks = ranks
        store.check_trainable()
        mine = tuple(evaluation for evaluation in config.evaluate if evaluation.when != "front")
        self.config = config = config.model_copy(update={"evaluate": mine})
        self.device = torch.device(pick_device(config.device))
        data, batch = store.split("train"), config.training.batch_size
        if batch > len(data):
            raise UserError(f"batch_size {batch} is more than the {len(data)} training images")
        if batch < ranks.size:
            raise UserError(f"batch_size {batch} is less than the {ranks.size} processes that train the model")
        with global_seed(config.seed, self.device):
            model = make_model(config.model, store.meta)
        synchronize(model.train(), config.training, self.device, ranks)
        if config.training.grad_checkpointing:
            checkpoint_gradients(model)
        if config.training.compile:
            compile_towers(model)
        self.model = model.to(self.device).to(memory_format=torch.channels_last).train()
        self.scale = LogitScale(config.temperature).to(self.device)
        self.optimizer = make_optimizer(self.model, self.scale.nu, config)
        self.planner = Planner(config, self.model, data, ranks)
        self.feed = feed_of(self.model, data, self.planner, self.device)
        self.updates = Updates(self.model, self.scale, self.optimizer, config, ranks)
        sizes = {"image_size": self.model.image_size, "context_length": self.model.context_length}
        further = [(each, open_store(each.data, **sizes)) for each in config.evaluate]
        self._evaluator = Evaluator(store, further, Where(self.device, config.training.precision, progress, ranks))
        self._store = store
        self.train_s = 0.0
        self.identity = _identity(config, store, [data for _, data in further], model.weights_hash)

    def check_start(self, weights: str | None) -> None:
        """Checks the weights that it starts from.

        Args:
            weights: Their required hash; None for any.

        Raises:
            UserError: They are others.
        """
        if weights is not None and self.model.weights_hash != weights:
            raise UserError(f"{self.config.model.pretrained} no longer holds the weights that the sweep began with")

    def align(self) -> None:
        """Gives all ranks the weights of rank 0: machines may round random numbers differently."""
        self._ranks.copy_first([*self.model.tower.state_dict().values()])

    def steps(self, before: int, after: int) -> Iterator[None]:
        """Takes the steps from one number of epochs to another; gives way after each."""
        per_epoch = self.planner.per_epoch
        started = time.perf_counter()
        for plan, batch in self.feed.batches(before * per_epoch, after * per_epoch):
            with numerics(self.config.training, self.device):
                self.updates.take(plan, batch)
            self._progress((plan.step + 1) / per_epoch)
            self.train_s += time.perf_counter() - started
            yield
            started = time.perf_counter()

    def report(self, before: int, after: int) -> Report:
        """Measures what the steps from one number of epochs to another have led to."""
        started = time.perf_counter()
        taken = self.updates.read()
        self._check_weights(after)
        trained, self.train_s = self.train_s + time.perf_counter() - started, 0.0
        started = time.perf_counter()
        measured = self._evaluator(self.model, last=after == self.config.training.epochs)
        step = after * self.planner.per_epoch
        metrics = {**measured, **self._progress_metrics(step, taken)}
        metrics |= {
            "time/train_s": trained,
            "time/eval_s": time.perf_counter() - started,
            "time/samples_per_s": taken.steps * self.config.training.batch_size / trained,
        }
        metrics = self._ranks.told(metrics)
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise NonFinite(f"{', '.join(bad)} after epoch {after}")
        return Report(after, step, metrics)

    def _progress_metrics(self, step: int, taken: Taken) -> dict[str, float]:
        """Loss and schedules after ``step`` steps."""
        tau = self.scale.tau(Fraction(step, self.planner.steps))
        return {
            "temperature/tau": tau,
            "temperature/beta": 1.0 / tau,
            "train/loss": taken.loss / taken.steps,
            "train/lr": self.config.optimizer.lr * self.planner.lr_factor(step - 1),
            "train/swapped_fraction": taken.swapped / taken.steps,
        }

    def _check_weights(self, epochs: int) -> None:
        """Checks all weights: a row of the embedding that no batch reads affects no loss."""
        weights = {**dict(self.model.tower.named_parameters()), "nu": self.scale.nu}
        bad = [name for name, weight in weights.items() if not weight.isfinite().all()]
        if bad:
            raise NonFinite(f"weights after epoch {epochs}: {', '.join(bad[:3])}{', …' if len(bad) > 3 else ''}")

    def save_outcomes(self, folder: Path | None) -> None:
        """Writes, at the end, what plots and tests need of the validation pairs.

        That is the features of some, and what each image and caption counts in retrieval.

        Args:
            folder: Where rank 0 writes it; None on other ranks.
        """
        sample, outcomes = self._evaluator.sample(), self._evaluator.outcomes()
        if folder is not None and outcomes is not None:
            save_sample(folder, *sample)
            outcomes.save(folder)

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
                align_state(self.optimizer)
        except _MISFIT as error:
            if is_out_of_memory(error):
                raise
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

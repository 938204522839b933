"""Checks before a sweep starts: cheap ones first, torch only if it is needed.

A sweep that cannot work is refused. A sweep that works, but probably not as intended, gets a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gaptune.config import HEADS, MODEL_PARAMETERS, SweepConfig, TrialConfig, flatten
from gaptune.config.document import flow
from gaptune.config.models import PRESETS, check_model, preset_weights
from gaptune.config.sweep import MOST_CANDIDATES
from gaptune.data import Mixture, Store
from gaptune.data.open import look_up, open_training
from gaptune.data.tasks import (
    PROBED,
    lacking,
    lacking_of_source,
    no_prompts,
    other_features,
    other_treatment,
    own_probes,
)
from gaptune.engine.cluster import is_running, place_of
from gaptune.engine.lanes import Lanes, lanes_of
from gaptune.engine.placement import Gpus, trials_at_once
from gaptune.engine.shared_paths import check_full_paths
from gaptune.errors import UserError
from gaptune.ledger.state import next_report
from gaptune.search.rungs import least_epoch, rung_fractions
from gaptune.space.idle import idle_parameters
from gaptune.space.methods import expand_method
from gaptune.space.model import Choice, RandomDraw, Space
from gaptune.storage.folder import is_url
from gaptune.storage.paths import check_folder, local_path
from gaptune.text.numbers import exact

FEW_IMAGES = 100
"""Validation images below which a fraction such as recall has a standard error of up to 0.05 and more."""

_MOST_STEPS = 10**9  # months of training on any device
_DRAWS = 50
_MUCH = 0.1  # fraction of an epoch's images whose loss is worth a warning
_STATE = 3 * 4  # bytes per weight in a checkpoint: the weight and AdamW's two moments in float32
_KEPT = 2  # checkpoints of a running trial


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model.

    Attributes:
        weights: Number of weights.
        image_size: Height and width of the images.
        context_length: Tokens per caption.
        remarks: Remarks on the initial weights and on evaluation data, one sentence each.
    """

    weights: int
    image_size: int
    context_length: int
    remarks: tuple[str, ...] = ()

    @property
    def checkpoints(self) -> int:
        """Maximum number of bytes of a running trial's checkpoints."""
        return self.weights * _STATE * _KEPT


@dataclass(frozen=True)
class Findings:
    """Results of the checks.

    Attributes:
        store: The data store.
        sizes: Sizes of the model.
        gpus: GPUs of each trial.
        lanes: Number of trials that a worker trains together.
        side_by_side: Number of trials that this machine runs in parallel; None on a cluster.
        warnings: Warnings, one sentence each.
    """

    store: Store
    sizes: Sizes
    gpus: Gpus
    lanes: Lanes
    side_by_side: int | None
    warnings: tuple[str, ...]


def preflight(space: Space, sweep: SweepConfig, folder: Path, *, address: str | None = None) -> Findings:
    """Checks everything of a sweep that can be checked before a trial starts. Writes nothing but cached data.

    Args:
        space: The search space.
        sweep: The sweep config.
        folder: Directory of the sweep, which need not exist.
        address: Address of the Ray cluster that runs the trials, whose devices are not checked; None for this machine.

    Raises:
        UserError: The sweep cannot work.
    """
    _check_search(space, sweep)
    reach = _Reach(space, sweep)
    _check_numbers(sweep, reach)
    draws = _check_draws(space, sweep)
    free = check_folder(folder, "results")
    if sweep.storage and (not is_url(sweep.storage) or sweep.storage.startswith("file://")):
        check_folder(local_path(sweep.storage.removeprefix("file://")) / folder.name, "storage")
    place = place_of(sweep.resources, address)
    if place.several:
        check_full_paths(sweep, place.name)
    store, sizes = check_trial(sweep, here=False)
    _check_data(sweep, store, reach)
    gpus = place.assign(sweep.resources, sweep.device)
    resources = sweep.resources.model_copy(update={"gpu": gpus.number})
    place.check(resources)
    if address is None and not is_running():  # elsewhere, the nodes decide
        _check_device("cuda" if gpus.number else "cpu", reach("training.precision"))
    if resources.ranks > 1:
        _check_ranks(sweep, store, resources.ranks, "cuda" if gpus.number else "cpu", min(reach("training.batch_size")))
    lanes = lanes_of(sweep, store, resources)
    if lanes.number > 1:
        gpus = replace(gpus, to_measure=False)  # they share a GPU as lanes of one worker
    side_by_side = None
    if address is None:
        parallel = max(1, trials_at_once(resources, place.machines[:1]))
        parallel = min(parallel, resources.concurrency or parallel)
        side_by_side = min(parallel * lanes.number, _trials(space, sweep) * sweep.search.seeds)
    warnings = [
        *draws,
        *sizes.remarks,
        *idle_parameters(space, flatten(sweep.trial({}))),
        *_of_search(space, sweep, reach),
        *_of_validation(sweep, store),
        *of_training(reach("training.batch_size"), store, least=_MUCH),
    ]
    if side_by_side is not None and not sweep.storage and free < sizes.checkpoints * side_by_side:
        needed = sizes.checkpoints * side_by_side
        warnings.append(
            f"{megabytes(free)} are free where the sweep is kept; the checkpoints of {side_by_side} running trials "
            f"take up to {megabytes(needed)}"
        )
    return Findings(store, sizes, gpus, lanes, side_by_side, tuple(warnings))


def check_trial(config: TrialConfig, *, here: bool = True) -> tuple[Store, Sizes]:
    """Checks what a training needs: device, data, model, weights, evaluations.

    Args:
        config: Config of the training, or what all trainings of a sweep have in common.
        here: Whether this process trains, so that it must have the device.

    Returns:
        The data that it is trained on, and the sizes of its model.

    Raises:
        UserError: Something cannot work.
    """
    check_model(config.model)
    store = open_training(config.data)
    own_probes(store)
    if here:
        _check_device(config.device, (config.training.precision,))
    sizes = _sizes(config, store)
    for evaluation in config.evaluate:
        found = look_up(evaluation.data, image_size=sizes.image_size, context_length=sizes.context_length)
        if misfit := other_features(store.meta.features, found):
            raise UserError(f"{evaluation.name} ({evaluation.data}) cannot be evaluated: {misfit}")
        if unlike := other_treatment(store, found):
            remark = f"{evaluation.name} ({evaluation.data}): {unlike}; use --treated-as {config.data.store}"
            sizes = replace(sizes, remarks=(*sizes.remarks, remark))
        for task in evaluation.tasks:
            what = lacking(found, task) if isinstance(found, Store) else lacking_of_source(found, task)
            if what:
                raise UserError(f"{evaluation.name} ({evaluation.data}) cannot be evaluated by {task}: it has {what}")
    return store, sizes


class _Reach:
    """The values that parameters can have in a sweep's trials: of a range its ends.

    Args:
        space: The search space.
        sweep: What it varies.
    """

    def __init__(self, space: Space, sweep: SweepConfig) -> None:
        self._params = {parameter.name: parameter for parameter in space.parameters}
        self._base = flatten(sweep.trial({}))

    def __call__(self, name: str) -> tuple[Any, ...]:
        parameter = self._params.get(name)
        if parameter is None:
            return (self._base[name],)
        of = parameter.distribution
        values = of.values if isinstance(of, Choice) else (of.low, of.high)
        return (*values, self._base[name]) if parameter.when else tuple(values)


def _trials(space: Space, sweep: SweepConfig) -> int:
    return len(space.combinations()) if space.grid else sweep.search.candidates


def _check_search(space: Space, sweep: SweepConfig) -> None:
    of_heads = next((each.name for each in space.parameters if each.name in MODEL_PARAMETERS), None)
    if of_heads and sweep.model.name != HEADS:
        raise UserError(
            f"{of_heads} is a parameter of the model {HEADS}; this sweep trains {sweep.model.name}", file=space.path
        )
    if sweep.search.sampler == "grid" and not space.grid:
        raise UserError("sampler grid needs a space with `grid: true`", file=space.path)
    for point in space.combinations() if space.grid else space.points_to_evaluate:
        try:
            sweep.trial(expand_method(point))
        except UserError as error:
            raise UserError(
                f"the point {flow(dict(point))} does not fit this sweep: {error}", file=space.path
            ) from None
    trainings = _trials(space, sweep) * sweep.search.seeds
    if trainings > MOST_CANDIDATES:
        raise UserError(f"{trainings:,} trainings (trials times seeds); a sweep has at most {MOST_CANDIDATES:,}")


def _check_numbers(sweep: SweepConfig, reach: _Reach) -> None:
    last = max(reach("seed")) + sweep.search.seeds - 1
    if last >= 2**31:
        raise UserError(f"seed: the last of {sweep.search.seeds} seeds is {last}; they must be below 2^31")


def _check_draws(space: Space, sweep: SweepConfig) -> list[str]:
    """Draws some trials: refuses where none is possible, warns where some are not."""
    if space.grid:
        return []
    draws, reasons = RandomDraw(np.random.default_rng(0)), []
    for _ in range(_DRAWS):
        try:
            sweep.trial(expand_method(space.suggest(draws)))
        except UserError as error:
            reasons.append(error.message)
    if len(reasons) == _DRAWS and not space.points_to_evaluate:
        raise UserError(f"no trial of this space is possible in this sweep: {reasons[0]}", file=space.path)
    return [f"{len(reasons)} of {_DRAWS} random draws are impossible ({reasons[0]})"] if reasons else []


def _check_device(device: str, precisions: tuple[Any, ...]) -> None:
    if device == "cpu" or (device == "auto" and "bf16" not in precisions):
        return
    import torch

    from gaptune.trial.device import pick_device

    if pick_device(device) == "cuda" and "bf16" in precisions and not torch.cuda.is_bf16_supported(False):
        raise UserError(f"training.precision: {torch.cuda.get_device_name()} cannot compute in bf16; set it to fp32")


def _check_ranks(config: TrialConfig, store: Store, ranks: int, device: str, batch: int) -> None:
    """Refuses what several ranks cannot train: a batch of fewer pairs, and some batch norms."""
    if batch < ranks:
        raise UserError(
            f"training.batch_size: {batch} pairs are fewer than the {ranks} ranks of each trial "
            "(resources.workers and resources.gpu)"
        )
    import torch

    from gaptune.trial.batch_norm import synchronize
    from gaptune.trial.build_model import make_model
    from gaptune.trial.ranks import Ranks

    with torch.device("meta"):
        model = make_model(config.model, store.meta).train()
        synchronize(model, config.training, torch.device(device), Ranks(0, ranks))


def _sizes(config: TrialConfig, store: Store) -> Sizes:
    """Sizes of a model; it is built without memory unless its name alone shows that it fits the data."""
    model, meta, recompute = config.model, store.meta, config.training.grad_checkpointing
    as_named = not (meta.features or model.image_size or model.pretrained or model.freeze)
    if model.name in PRESETS and as_named and not recompute:
        image_size = PRESETS[model.name]["vision_cfg"]["image_size"]
        return Sizes(preset_weights(model, len(meta.vocabulary), meta.context_length), image_size, meta.context_length)
    import torch

    from gaptune.trial.build_model import make_model
    from gaptune.trial.recompute import checkpoint_gradients

    with torch.device("meta"):
        clip = make_model(model, meta)
    weights = sum(parameter.numel() for parameter in clip.parameters())
    without = checkpoint_gradients(clip) if recompute else ()
    idle = [f"training.grad_checkpointing has no effect on the {part} of {model.name}" for part in without]
    return Sizes(weights, clip.image_size, clip.context_length, (*clip.remarks, *idle))


def _check_data(sweep: SweepConfig, store: Store, reach: _Reach) -> None:
    images = store.meta.splits["train"].images
    largest = max(reach("training.batch_size"))
    if largest > images:
        raise UserError(f"batch_size {largest} is more than the {images} training images")
    steps = max(reach("training.epochs")) * (images // min(reach("training.batch_size")))
    if steps > _MOST_STEPS:
        raise UserError(f"a training of {steps:,} steps (epochs times batches); at most {_MOST_STEPS:,} are taken")
    if not own_probes(store):
        lacks = (store.meta.classes and no_prompts(store)) or f"no {' and '.join(PROBED)} with classes"
        for metric in sweep.asked:
            if metric in ("zeroshot/top1", "probe/top1"):
                raise UserError(f"{metric} cannot be measured: {store.path} has {lacks}")


def _of_search(space: Space, sweep: SweepConfig, reach: _Reach) -> Iterator[str]:
    trials, size = sweep.search.candidates, space.size()
    if space.grid and trials != size and "candidates" in sweep.search.model_fields_set:
        yield f"the grid has {size} combinations and all are tried: search.candidates {trials} does not apply"
    elif not space.grid and size is not None and trials > size:
        yield f"the space has {size} combinations, fewer than the {trials} candidates that are asked for"
    if len(space.points_to_evaluate) > trials:
        yield (
            f"the space has {len(space.points_to_evaluate)} points_to_evaluate; only the first {trials} are tried "
            f"(search.candidates: {trials})"
        )
    stopping, epochs, every = sweep.early_stopping, max(reach("training.epochs")), min(reach("training.evaluate_every"))
    rungs = (next_report(least_epoch(at, epochs), epochs, every) for at in rung_fractions(stopping))
    if stopping.method != "none" and all(rung == epochs for rung in rungs):
        reported = f", with a report after every {every} epochs," if every > 1 else ""
        yield f"early stopping has nothing to stop: a training of {epochs} epochs{reported} has no rung before its end"


def of_training(batches: Iterable[int], store: Store, *, least: float = 0.0) -> Iterator[str]:
    """Warnings about the image-caption pairs of a training.

    Args:
        batches: Possible batch sizes.
        store: Data store of the training.
        least: Fraction of the images that an epoch must leave out for a warning.

    Yields:
        Warnings, one sentence each: images that an epoch leaves out, images that occur twice in a batch.
    """
    images = store.meta.splits["train"].images
    for batch in sorted(set(batches)):
        if (out := left_over(images, batch)) and images % batch >= least * images:
            better = images // -(-images // batch)
            helps = images % batch >= _MUCH * images and better > 1
            yield f"{out}; training.batch_size={better} leaves out {images % better:,}" if helps else out
    if not isinstance(store, Mixture):
        return
    for name, count in store.left_out.items():
        if count:
            named = "1 train image" if count == 1 else f"{count:,} train images"
            yield f"{named} of {name} {'is' if count == 1 else 'are'} in val of {store.path}: not trained on"
    whole = sum(exact(weight) for _, weight in store.fractions.values())
    for batch in sorted(set(batches)):
        for name, (mine, weight) in store.fractions.items():
            if (taken := batch * exact(weight) / whole) > mine:
                yield (
                    f"a batch of {batch} takes {float(taken):.1f} images of {name}, which has {mine}: the same image "
                    "comes several times in a batch; lower its weight or training.batch_size"
                )


def left_over(images: int, batch: int) -> str:
    """What an epoch leaves out, as text; empty if it uses all images."""
    left = images % batch
    return f"each epoch leaves out {left:,} of {images:,} images (the last partial batch)" if left else ""


def _of_validation(sweep: SweepConfig, store: Store) -> Iterator[str]:
    images = store.meta.splits["val"].images
    if images >= FEW_IMAGES:
        return
    asked = [metric for metric in sweep.asked if metric.startswith("retrieval/")]
    ranks = sorted({int(metric.rpartition("_r")[2]) for metric in asked} or {1})
    chance = [
        f"recall@{k} is 1 whatever the model does" if k >= images else f"recall@{k} is {k / images:.2g} by chance"
        for k in ranks
    ]
    yield f"only {images} validation images: {', '.join(chance)}, and one image counts {1 / images:.2g}"


def megabytes(size: int) -> str:
    """A number of bytes as text."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"

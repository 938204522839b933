"""What can be known before a sweep starts, found before it starts: cheap checks first, torch only where it is needed.

What cannot work is refused. What works, but hardly as it was meant, is a warning.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gaptune.config import SweepConfig, TrialConfig, flatten
from gaptune.config.document import flow
from gaptune.config.models import PRESETS, check_model, preset_weights
from gaptune.config.sweep import MOST_CANDIDATES
from gaptune.data import Mixture, Store
from gaptune.data.open import look_up, open_training
from gaptune.data.tasks import PROBED, lacking, lacking_of_source, own_probes
from gaptune.engine.cluster import check_place, is_running
from gaptune.engine.machine import available_cores
from gaptune.errors import UserError
from gaptune.search.rungs import rung_epoch, rung_fractions
from gaptune.space.idle import idle_parameters
from gaptune.space.methods import expand_method
from gaptune.space.model import Choice, RandomDraw, Space
from gaptune.storage.folder import is_url
from gaptune.text.numbers import exact

FEW_IMAGES = 100
"""Validation images below which a fraction such as recall has a standard error of up to 0.05 and more."""

_MOST_STEPS = 10**9  # of a training: months on any device
_LONGEST_INSIDE = 256  # bytes of a path inside a sweep's folder
_DRAWS = 50
_MUCH = 0.1  # fraction of the images of an epoch that is worth another batch size
_STATE = 3 * 4  # bytes of a weight in a checkpoint: itself and AdamW's two moments in float32
_KEPT = 2  # checkpoints of a trial under way


@dataclass(frozen=True)
class Sizes:
    """What a model takes.

    Attributes:
        weights: How many weights it has.
        image_size: Side of its images.
        context_length: Its tokens per caption.
        remarks: What a person should know of the weights that it starts from, a sentence each.
    """

    weights: int
    image_size: int
    context_length: int
    remarks: tuple[str, ...] = ()

    @property
    def checkpoints(self) -> int:
        """Bytes of the checkpoints of a trial under way, at most."""
        return self.weights * _STATE * _KEPT


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        store: The data.
        sizes: Of the model.
        side_by_side: Trials that this machine runs at once; None on a cluster.
        warnings: A sentence each.
    """

    store: Store
    sizes: Sizes
    side_by_side: int | None
    warnings: tuple[str, ...]


def preflight(space: Space, sweep: SweepConfig, folder: Path, *, address: str | None = None) -> Findings:
    """Checks everything of a sweep that can be checked before a trial starts. Writes nothing but cached data.

    Args:
        space: The search space.
        sweep: How trials are run.
        folder: Where the sweep is kept, or will be.
        address: Of the Ray cluster that runs the trials, whose devices nobody knows here; None for this machine.

    Raises:
        UserError: Something cannot work.
    """
    _check_search(space, sweep)
    reach = _Reach(space, sweep)
    _check_numbers(sweep, reach)
    draws = _check_draws(space, sweep)
    free = check_folder(folder)
    if sweep.storage and (not is_url(sweep.storage) or sweep.storage.startswith("file://")):
        check_folder(Path(os.path.expanduser(sweep.storage.removeprefix("file://"))) / folder.name)  # noqa: PTH111
    store, sizes = check_trial(sweep, precisions=reach("training.precision"), address=address)
    _check_data(sweep, store, reach)
    if sweep.device == "cuda" and not sweep.resources.gpu:
        raise UserError("device: cuda needs a GPU for each trial; set resources.gpu (a fraction shares a card)")
    if not is_running():  # Ray itself says what it has
        check_place(sweep.resources, address)
    side_by_side = None
    if address is None:
        fitting = max(1, available_cores() // sweep.resources.cpu)
        fitting = min(fitting, sweep.resources.concurrency or fitting)
        side_by_side = min(fitting, _trials(space, sweep) * sweep.search.seeds)
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
            f"{megabytes(free)} are free where the sweep is kept; the checkpoints of {side_by_side} trials under way "
            f"take up to {megabytes(needed)}"
        )
    return Findings(store, sizes, side_by_side, tuple(warnings))


def check_trial(
    config: TrialConfig, *, precisions: tuple[Any, ...] | None = None, address: str | None = None
) -> tuple[Store, Sizes]:
    """Checks what a training needs: device, data, model, weights, evaluations.

    Args:
        config: The training, or what those of a sweep have in common.
        precisions: The precisions that it may be trained in; None for its own.
        address: Of the Ray cluster that runs it; None for this machine.

    Returns:
        The data that it is trained on, and the sizes of its model.

    Raises:
        UserError: Something cannot work.
    """
    check_model(config.model)
    store = open_training(config.data)
    own_probes(store)
    if address is None:
        _check_device(config.device, precisions or (config.training.precision,))
    sizes = _sizes(config, store)
    for evaluation in config.evaluate:
        found = look_up(evaluation.data, image_size=sizes.image_size, context_length=sizes.context_length)
        features = found.meta.features if isinstance(found, Store) else None
        if features != store.meta.features:
            kinds = [f"features of {each}" if each else "images" for each in (store.meta.features, features)]
            raise UserError(f"{evaluation.name} cannot be evaluated: the model takes {kinds[0]}, and it has {kinds[1]}")
        for task in evaluation.tasks:
            what = lacking(found, task) if isinstance(found, Store) else lacking_of_source(found, task)
            if what:
                raise UserError(f"{evaluation.name} ({evaluation.data}) cannot be evaluated by {task}: it has {what}")
    return store, sizes


def check_folder(folder: Path) -> int:
    """Checks that a folder can be made and written to, without making it.

    Returns:
        Bytes that are free there.

    Raises:
        UserError: Its name or path is too long, a part of it is a file or ``~``, or nothing can be written there.
    """
    folder = folder.absolute()
    if "~" in folder.parts:
        raise UserError(f"{folder}: nobody has expanded the ~; write the home folder out")
    name = next((part for part in reversed(folder.parts) if len(os.fsencode(part)) > 255), None)
    if name is not None:
        raise UserError(
            f"a name of {len(os.fsencode(name))} bytes is too long for a folder ({name[:40]}…); at most 255"
        )
    length = len(os.fsencode(folder)) + _LONGEST_INSIDE
    if length > 4096:
        raise UserError(f"the path of {folder.name} is too long: {length - _LONGEST_INSIDE} bytes")
    parent = folder
    try:
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir():
            raise UserError(f"cannot write {folder}: {parent} is a file")
        with tempfile.TemporaryFile(dir=parent):  # it has no name, where the file system knows such files
            pass
        return shutil.disk_usage(parent).free
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror} ({parent})") from None


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

    from gaptune.trial.loop import pick_device

    if pick_device(device) == "cuda" and "bf16" in precisions and not torch.cuda.is_bf16_supported():
        raise UserError(f"training.precision: {torch.cuda.get_device_name()} cannot compute in bf16; say fp32")


def _sizes(config: TrialConfig, store: Store) -> Sizes:
    """The sizes of a model, which is built without memory where its name alone does not tell that it fits the data."""
    model, meta = config.model, store.meta
    if model.name in PRESETS and not (meta.features or model.image_size or model.pretrained or model.freeze):
        image_size = PRESETS[model.name]["vision_cfg"]["image_size"]
        return Sizes(preset_weights(model, len(meta.vocabulary), meta.context_length), image_size, meta.context_length)
    import torch

    from gaptune.trial.build_model import make_model

    with torch.device("meta"):
        clip = make_model(model, meta)
    weights = sum(parameter.numel() for parameter in clip.parameters())
    return Sizes(weights, clip.image_size, clip.context_length, tuple(clip.remarks))


def _check_data(sweep: SweepConfig, store: Store, reach: _Reach) -> None:
    images = store.meta.splits["train"].images
    largest = max(reach("training.batch_size"))
    if largest > images:
        raise UserError(f"batch_size {largest} is more than the {images} training images")
    steps = max(reach("training.epochs")) * (images // min(reach("training.batch_size")))
    if steps > _MOST_STEPS:
        raise UserError(f"a training of {steps:,} steps (epochs times batches); at most {_MOST_STEPS:,} are taken")
    if not own_probes(store):
        for metric in sweep.asked:
            if metric in ("zeroshot/top1", "probe/top1"):
                raise UserError(f"{metric} cannot be measured: {store.path} has no {' and '.join(PROBED)} with classes")


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
    stopping, epochs = sweep.early_stopping, max(reach("training.epochs"))
    if stopping.method != "none" and not any(rung_epoch(at, epochs) < epochs for at in rung_fractions(stopping)):
        yield f"early stopping has nothing to stop: a training of {epochs} epochs has no rung before its end"


def of_training(batches: Iterable[int], store: Store, *, least: float = 0.0) -> Iterator[str]:
    """What a person should know of the pairs that a training sees.

    Args:
        batches: The sizes that its batches may have.
        store: Its data.
        least: Fraction of the images from which on it is said that an epoch leaves them out.

    Yields:
        A sentence each: images that no epoch or not each epoch uses, images that come twice in a batch.
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
    """What an epoch leaves out, in words; nothing where it uses all images."""
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
    """A number of bytes for people."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"

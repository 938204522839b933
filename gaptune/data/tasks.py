"""The tasks that a store allows, by its labels and captions."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt

from gaptune.data.store.columns import FeatureMeta
from gaptune.data.store.reader import Store
from gaptune.data.store.split import Split
from gaptune.errors import UserError
from gaptune.metrics.held_out import held_out
from gaptune.metrics.table import Task

if TYPE_CHECKING:
    from gaptune.data.sources.base import Source

TASKS: tuple[Task, ...] = get_args(Task)

FITTED = ("probe_train", "train")
"""The splits that a probe or a k-NN is fitted on: the first that there is."""

TESTED = ("probe_test", "test", "val")
"""The splits that classification is tested on: the first that there is."""

CAPTIONED = ("test", "val")
"""The splits for retrieval: the first that there is."""

PAIRED = ("pairs", *CAPTIONED)
"""The splits for pairs: the first that there is."""


PROBED = ("probe_train", "probe_test")
"""The splits of a training's own data for zero-shot and a probe."""


def own_probes(store: Store) -> dict[str, Split]:
    """The splits that a training is probed on.

    Returns:
        None where its store has no classes, or holds features without those of class prompts.

    Raises:
        UserError: There is a single validation image, or the probe's images have no labels, or a single class.
    """
    if store.meta.splits["val"].images < 2:
        raise UserError(f"{store.path} has a single val image; metrics of pairs need two")
    if not store.meta.classes or no_prompts(store) or not all(name in store for name in PROBED):
        return {}
    splits = {name: store.split(name) for name in PROBED}
    for name, split in splits.items():
        if split.labels is None:
            raise UserError(f"{store.path} has images without a label in {name}")
        if name == "probe_train" and (few := one_class(split.labels)):
            raise UserError(f"{store.path} cannot be probed: {name} has {few}")
    return splits


def no_prompts(store: Store) -> str:
    """Why a store's classes have no prompts for zero-shot classification; empty if they have."""
    lacks = store.meta.features and not store.meta.prompt_features
    return "no features of class prompts" if lacks else ""


def allowed_tasks(store: Store) -> tuple[Task, ...]:
    """The tasks that a store allows, without ``mmvp``: no store states that its rows are pairs."""
    return tuple(task for task in TASKS if task != "mmvp" and not lacking(store, task))


def lacking(store: Store, task: Task) -> str:
    """What a store lacks for a task; empty if nothing."""
    if task == "retrieval":
        return "" if captioned(store) else _no_captions(store, CAPTIONED)
    if task == "mmvp":
        split = paired(store)
        if split is None:
            return _no_captions(store, PAIRED)
        if len(split) % 2 or len(split.texts) != len(split):
            return f"{len(split)} images with {len(split.texts)} captions, not pairs with a caption each"
        return ""
    if few := _few_classes(store.meta.classes):
        return few
    if labeled(store, TESTED) is None:
        return _no_labels(store, TESTED)
    if task == "zeroshot":
        return no_prompts(store)
    fitted = labeled(store, FITTED)
    if fitted is None:
        return _no_labels(store, FITTED)
    assert fitted.labels is not None
    return one_class(fitted.labels, choosing=task == "probe")


def other_features(model: FeatureMeta | None, data: Store | Source) -> str:
    """Why a model does not take what a store or source holds; empty if it does.

    Args:
        model: Features that the model takes; None if it takes images.
        data: Features or images.
    """
    both = (model, data.meta.features if isinstance(data, Store) else None)
    sizes = [each and (each.image, each.text) for each in both]
    if sizes[0] == sizes[1]:
        return ""
    kinds = [f"features of {each}" if each else "images" for each in both]
    return f"the model takes {kinds[0]}, and it has {kinds[1]}"


def other_treatment(training: Store, data: Store | Source) -> str:
    """How features were prepared in another way than those that a model is trained on; empty if they were not."""
    if not isinstance(data, Store) or data.meta.features is None:
        return ""
    both = [[name for name in ("normalize", "center") if store.meta.source.get(name)] for store in (training, data)]
    if both[0] == both[1] and training.meta.source.get("center") == data.meta.source.get("center"):
        return ""
    done = [" and ".join(f"--{name}" for name in names) or "neither --normalize nor --center" for names in both]
    return f"its features were made with {done[1]}, the training features with {done[0]}"


def lacking_of_source(source: Source, task: Task) -> str:
    """What a source lacks for a task, as far as it is known before its images are read; empty if nothing."""
    if task in ("retrieval", "mmvp"):
        return ""
    if few := _few_classes(source.classes):
        return few
    if source.as_published:  # no split of it is made from another
        for names in (TESTED,) if task == "zeroshot" else (TESTED, FITTED):
            if not set(names) & set(source.splits):
                return f"no labeled images in {', '.join(names)}"
    return ""


def one_class(labels: npt.NDArray[np.int64], *, choosing: bool = False) -> str:
    """Why labels are not enough to fit a classifier; empty if they are.

    Args:
        labels: Labels of the images that a classifier is fitted on.
        choosing: Whether a part of them is held out to choose the regularization.
    """
    if len(np.unique(labels)) < 2:
        return "labeled images of a single class to learn from"
    if choosing and len(np.unique(labels[held_out(len(labels))[1]])) < 2:
        return f"only {len(labels)} labeled images to learn from, of one class without the fifth that is held out"
    return ""


def tested_on(store: Store, task: Task) -> str:
    """The split that a task is tested on: the first that the store has of those for the task, and never another.

    Raises:
        UserError: The store has none of them.
    """
    names = {"retrieval": CAPTIONED, "mmvp": PAIRED}.get(task, TESTED)
    return _present(store, names)


def fitted_on(store: Store, task: Task) -> str | None:
    """The split that a task's classifier is fitted on; None where nothing is fitted.

    Raises:
        UserError: The store has none for it.
    """
    return _present(store, FITTED) if task in ("probe", "knn") else None


def labeled(store: Store, names: tuple[str, ...]) -> Split | None:
    """The first of some splits that a store has; None where it has none of them, or an image of it has no label."""
    name = _first(store, names)
    split = store.split(name) if name else None
    return None if split is None or split.labels is None else split


def captioned(store: Store) -> Split | None:
    """The split for retrieval; None where there is none, or its captions are mere labels."""
    name = _first(store, CAPTIONED)
    split = store.split(name) if name else None
    return None if split is None or split.labels is not None else split


def paired(store: Store) -> Split | None:
    """The split for pairs: ``pairs``, whose images may have labels too, or that for retrieval."""
    return store.split("pairs") if "pairs" in store else captioned(store)


def _present(store: Store, names: tuple[str, ...]) -> str:
    name = _first(store, names)
    if name is None:
        raise UserError(f"{store.path} has no split {' or '.join(names)}")
    return name


def _first(store: Store, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in store), None)


def _no_captions(store: Store, names: tuple[str, ...]) -> str:
    name = _first(store, names)
    if name is None:
        return f"no images with captions of their own in {', '.join(names)}"
    return f"labels in place of captions in {name}"


def _no_labels(store: Store, names: tuple[str, ...]) -> str:
    name = _first(store, names)
    return f"no labeled images in {', '.join(names)}" if name is None else f"images without a label in {name}"


def _few_classes(classes: tuple[str, ...]) -> str:
    if not classes:
        return "no classes"
    return f"a single class, {classes[0]!r}" if len(classes) < 2 else ""

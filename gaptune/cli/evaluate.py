"""``gaptune eval``: a trained model on other data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

import click

from gaptune.cli.options import LocalPath, json_option, threads_option
from gaptune.console.json_output import print_json
from gaptune.console.plain import print_rows
from gaptune.errors import UserError, did_you_mean
from gaptune.metrics.table import Task, metrics_of
from gaptune.text.words import counted


@click.command("eval", epilog="Example: gaptune eval trial --data cifar10:cifar-10-batches-py --tasks zeroshot")
@click.argument("checkpoint", type=LocalPath())
@click.option(
    "--data",
    "reference",
    metavar="DATA",
    required=True,
    help="Data store, `scenes`, or a data set by kind and path: cifar10:PATH, imagefolder:PATH.",
)
@click.option(
    "--tasks",
    metavar="TASK,TASK",
    help=f"Comma-separated tasks: {', '.join(get_args(Task))}. Default: all that the data support, except mmvp.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Device to compute on.",
)
@threads_option
@json_option
def evaluate(checkpoint: Path, reference: str, tasks: str | None, device: str, threads: int, as_json: bool) -> None:
    """Evaluate the CHECKPOINT of a trial on other data.

    CHECKPOINT is a file, or a directory, whose newest checkpoint is used. Each metric has a 95% bootstrap interval over
    the test images.
    """
    wanted = None if tasks is None else _tasks(tasks)

    import torch

    from gaptune.data.open import look_up, open_store
    from gaptune.data.tasks import allowed_tasks, fitted_on, other_features, tested_on
    from gaptune.metrics.intervals import bootstrap_interval
    from gaptune.trial import NonFinite
    from gaptune.trial.checkpoint import read_checkpoint
    from gaptune.trial.device import pick_device
    from gaptune.trial.evaluate import TaskEvaluator, Where
    from gaptune.trial.loop import trained_model

    torch.set_num_threads(threads)
    model, precision = trained_model(read_checkpoint(checkpoint), device)
    sizes = {"image_size": model.image_size, "context_length": model.context_length}
    if misfit := other_features(model.features, look_up(reference, **sizes)):
        raise UserError(f"cannot evaluate on {reference}: {misfit}")
    store = open_store(reference, **sizes)
    chosen = wanted or allowed_tasks(store)
    if not chosen:
        raise UserError(f"cannot evaluate on {reference}: it has neither labels nor captions")
    try:
        values = TaskEvaluator(store, chosen, Where(torch.device(pick_device(device)), precision))(model)
    except NonFinite as error:
        raise UserError(f"cannot evaluate {checkpoint}: {error}") from None
    metrics: dict[str, dict[str, float | int | str]] = {}
    for task in chosen:
        test, train = tested_on(store, task), fitted_on(store, task)
        for name in metrics_of((task,)):
            low, high = bootstrap_interval(values[name])
            metrics[name] = {"value": values[name].mean(), "low": low, "high": high, "split": test}
            metrics[name] |= {"n": len(values[name]), "images": store.meta.splits[test].images}
            if train is not None:
                metrics[name] |= {"fitted_split": train, "fitted_images": store.meta.splits[train].images}
    if as_json:
        print_json({"checkpoint": str(checkpoint), "data": reference, "metrics": metrics})
        return
    rows = [
        (name, f"{row['value']:.4f}", f"{row['low']:.4f} to {row['high']:.4f}", _tested(name, row))
        for name, row in metrics.items()
    ]
    print_rows([("metric", "value", "95% interval", "test data"), *rows])


def _tested(name: str, row: Mapping[str, object]) -> str:
    """The test data of a metric in words."""
    images = counted(cast(int, row["images"]), "image")
    number = cast(int, row["n"])
    units = {"mmvp": counted(number, "pair"), "t2i": f"{counted(number, 'caption')} of {images}"}
    data = next((words for part, words in units.items() if part in name.replace("/", "_").split("_")), images)
    if "fitted_split" not in row:
        return f"{row['split']}: {data}"
    fitted = counted(cast(int, row["fitted_images"]), "image")
    return f"{row['split']}: {data}, fitted on {fitted} of {row['fitted_split']}"


def _tasks(text: str) -> tuple[Task, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in get_args(Task):
            raise UserError(f"--tasks: unknown task {name!r}{did_you_mean(name, get_args(Task))}")
    return tuple(cast(Task, name) for name in dict.fromkeys(names))

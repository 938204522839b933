"""``gaptune eval``: a trained model on further data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

import click

from gaptune.cli.options import LocalPath, json_option
from gaptune.console.json_output import print_json
from gaptune.errors import UserError, did_you_mean
from gaptune.metrics.table import Task, metrics_of
from gaptune.text.output import echo


@click.command("eval")
@click.argument("checkpoint", type=LocalPath())
@click.option(
    "--data",
    "reference",
    metavar="REF",
    required=True,
    help="A store, `scenes`, or a data set by kind and place: cifar10:PATH, imagefolder:PATH.",
)
@click.option(
    "--tasks", metavar="TASKS", help=f"Some of {','.join(get_args(Task))}; default: all that the data allow but mmvp."
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to compute."
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
@json_option
def evaluate(checkpoint: Path, reference: str, tasks: str | None, device: str, threads: int, as_json: bool) -> None:
    """Evaluate a trial's CHECKPOINT (a file, or a folder's newest) on other data.

    Each score comes with its 95 % bootstrap interval over the test images, and the split and number that it is of.
    """
    wanted = None if tasks is None else _tasks(tasks)

    import torch

    from gaptune.data.open import open_store
    from gaptune.data.tasks import allowed_tasks, fitted_on, tested_on
    from gaptune.metrics.intervals import bootstrap_interval
    from gaptune.trial import NonFinite
    from gaptune.trial.checkpoint import read_checkpoint
    from gaptune.trial.evaluate import TaskEvaluator, Where
    from gaptune.trial.loop import pick_device, trained_model

    torch.set_num_threads(threads)
    model, precision = trained_model(read_checkpoint(checkpoint), device)
    store = open_store(reference, image_size=model.image_size, context_length=model.context_length)
    chosen = wanted or allowed_tasks(store)
    if not chosen:
        raise UserError(f"{reference} has neither labels nor captions to be evaluated by")
    try:
        values = TaskEvaluator(store, chosen, Where(torch.device(pick_device(device)), precision))(model)
    except NonFinite as error:
        raise UserError(f"{checkpoint} is of no use: {error}") from None
    scores: dict[str, dict[str, float | int | str]] = {}
    for task in chosen:
        test, train = tested_on(store, task), fitted_on(store, task)
        for name in metrics_of((task,)):
            low, high = bootstrap_interval(values[name])
            scores[name] = {"score": values[name].mean(), "low": low, "high": high, "split": test}
            scores[name] |= {"n": len(values[name]), "images": store.meta.splits[test].images}
            if train is not None:
                scores[name] |= {"fitted_split": train, "fitted_images": store.meta.splits[train].images}
    if as_json:
        print_json({"checkpoint": str(checkpoint), "data": reference, "scores": scores})
        return
    echo(f"{'':<22}{'score':>7}  {'95 % interval':<18}on")
    for name, row in scores.items():
        echo(f"{name:<22}{row['score']:7.4f}  {row['low']:.4f} to {row['high']:.4f}  {_what(name, row)}")


def _what(name: str, row: Mapping[str, object]) -> str:
    """What a score is of, in words."""
    n, images = row["n"], f"{row['images']} images"
    counted = {"mmvp": f"{n} pairs", "t2i": f"{n} captions of {images}"}
    what = next((words for part, words in counted.items() if part in name.split("_")), images)
    fitted = f", fitted on {row['fitted_images']} images of {row['fitted_split']}" if "fitted_split" in row else ""
    return f"{row['split']}: {what}{fitted}"


def _tasks(text: str) -> tuple[Task, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in get_args(Task):
            raise UserError(f"--tasks: no task is called {name!r}{did_you_mean(name, get_args(Task))}")
    return tuple(cast(Task, name) for name in dict.fromkeys(names))

"""``gaptune model``: trained models for other tools."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.group import Group
from gaptune.cli.options import LocalPath, SweepName, TrialNumber, results_option, tracking_option
from gaptune.cli.session import check_trial
from gaptune.errors import UserError
from gaptune.ledger import State, sweep_folder
from gaptune.storage.paths import check_folder
from gaptune.text.output import echo

if TYPE_CHECKING:
    from gaptune.ledger import SweepRecord


@click.group(cls=Group, epilog="Example: gaptune model export first 3 --out exported")
def model() -> None:
    """Export trained models to other tools."""


@model.command("export", epilog="Example: gaptune model export first 3 --out exported")
@click.argument("name", type=SweepName(own=True))
@click.argument("trial", type=TrialNumber())
@click.option("--out", metavar="DIR", required=True, type=LocalPath(file_okay=False), help="Directory to create.")
@results_option
def export_command(name: str, trial: int, out: Path, results: Path) -> None:
    """Export a TRIAL of the sweep NAME.

    Writes a directory that open_clip loads without gaptune. Heads are written as safetensors with a JSON file;
    README.md contains the code that loads them.
    """
    folder = sweep_folder(results, name)
    check_folder(out.parent, "--out")
    _export(folder, _sweep_with(folder, trial), trial, out)
    heads = (out / "heads.json").exists()
    load = f"to load the heads: {out / 'README.md'}"
    echo(f"{out}\n" + (load if heads else f'open_clip.create_model_and_transforms("local-dir:{out}")'))


@model.command(epilog="Example: gaptune model register first 3 --as my-clip")
@click.argument("name", type=SweepName(own=True))
@click.argument("trial", type=TrialNumber())
@click.option("--as", "registered", metavar="MODEL", help="Name in the registry. Default: the name of the sweep.")
@tracking_option
@results_option
def register(name: str, trial: int, registered: str | None, tracking_uri: str | None, results: Path) -> None:
    """Register a TRIAL of the sweep NAME in MLflow.

    The registered model embeds images and texts. Heads embed features; and images and texts, too, if the features
    are those of --image-tower and --text-tower.
    """
    import tempfile

    from gaptune.tracking import resolve_uri
    from gaptune.tracking.links import read_runs
    from gaptune.tracking.registry import check_model_name, register_model

    model_name = name if registered is None else registered
    check_model_name(model_name)
    folder = sweep_folder(results, name)
    record = _sweep_with(folder, trial)
    runs = read_runs(folder)
    if runs is None or str(trial) not in runs["trials"]:
        raise UserError(f"trial {trial} of {name!r} is not in MLflow; to write it: gaptune sync {shlex.quote(name)}")
    uri = resolve_uri(tracking_uri, results)
    found = record.trials[trial]
    with tempfile.TemporaryDirectory() as place:
        exported = _export(folder, record, trial, Path(place) / "model")
        version = register_model(
            exported,
            name=model_name,
            uri=uri,
            run=runs["trials"][str(trial)],
            tags={"sweep": name, "trial": str(trial), "method": found.method},
        )
    echo(f"models:/{model_name}/{version}")


def _sweep_with(folder: Path, trial: int) -> SweepRecord:
    """The sweep in a directory, if it has a trial of this number."""
    from gaptune.ledger import load

    record = load(folder)
    check_trial(record, trial)
    return record


def _export(folder: Path, record: SweepRecord, trial: int, out: Path) -> Path:
    """Writes the model of a trial; returns ``out``."""
    from gaptune.config import TrialConfig, with_params
    from gaptune.data.open import open_training
    from gaptune.results.model_card import model_card
    from gaptune.trial.checkpoint import Checkpoints
    from gaptune.trial.export import export_model

    found = record.trials[trial]
    state = Checkpoints(folder / "trials" / f"{trial:04d}").load()
    if state is None:
        complete = found.state is State.COMPLETE
        why = "" if complete else f" (it is {found.state}: only complete trials keep their weights)"
        raise UserError(f"trial {trial} of {record.name!r} has no checkpoint in {folder / 'trials'}{why}")
    config = with_params(TrialConfig(), found.config)
    store = open_training(config.data)
    if store.meta.content_hash != record.header.data.hash:
        raise UserError(f"{config.data.store} is no longer the data that {record.name!r} was trained on")
    metrics: dict[str, Any] = state["report"]["metrics"]
    card = model_card(record, found, metrics, epoch=state["report"]["epoch"])
    export_model(config, store, state, beta=metrics["temperature/beta"], card=card, out=out)
    return out

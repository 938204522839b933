"""``gaptune model``: trained models for other tools."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.options import LocalPath, SweepName, TrialNumber, results_option, tracking_option
from gaptune.cli.sweeps import check_trial
from gaptune.errors import UserError
from gaptune.ledger import State, sweep_folder
from gaptune.storage.paths import check_folder
from gaptune.text.output import echo

if TYPE_CHECKING:
    from gaptune.ledger import SweepRecord


@click.group()
def model() -> None:
    """Hand trained models on to other tools."""


@model.command("export")
@click.argument("name", type=SweepName(own=True))
@click.argument("trial", type=TrialNumber())
@click.option("--out", required=True, type=LocalPath(file_okay=False), help="The folder to make.")
@results_option
def export_command(name: str, trial: int, out: Path, results: Path) -> None:
    """Write a TRIAL of the sweep NAME as a folder that plain open_clip loads."""
    folder = sweep_folder(results, name)
    check_folder(out.parent, "--out")
    _export(folder, _trial(folder, trial), trial, out)
    echo(f'{out}\nopen_clip.create_model_and_transforms("local-dir:{out}")')


@model.command()
@click.argument("name", type=SweepName(own=True))
@click.argument("trial", type=TrialNumber())
@click.option("--as", "registered", metavar="MODEL", help="Its name in the registry; default: the sweep's.")
@tracking_option
@results_option
def register(name: str, trial: int, registered: str | None, tracking_uri: str | None, results: Path) -> None:
    """Register a TRIAL of the sweep NAME as a model of MLflow, which embeds images and texts."""
    import tempfile

    from gaptune.tracking import resolve_uri
    from gaptune.tracking.links import read_runs
    from gaptune.tracking.registry import check_model_name, register_model

    model_name = name if registered is None else registered
    check_model_name(model_name)
    folder = sweep_folder(results, name)
    record = _trial(folder, trial)
    runs = read_runs(folder)
    if runs is None or str(trial) not in runs["trials"]:
        raise UserError(f"trial {trial} of {name!r} is not in MLflow yet; gaptune sync {shlex.quote(name)} writes it")
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


def _trial(folder: Path, trial: int) -> SweepRecord:
    """The sweep in a folder, which has a trial of this number."""
    from gaptune.ledger import load

    record = load(folder)
    check_trial(record, trial)
    return record


def _export(folder: Path, record: SweepRecord, trial: int, out: Path) -> Path:
    """Writes a trial's weights for open_clip; returns ``out``."""
    from gaptune.config import TrialConfig, with_params
    from gaptune.data.open import open_training
    from gaptune.trial.checkpoint import Checkpoints
    from gaptune.trial.export import export_model

    found = record.trials[trial]
    state = Checkpoints(folder / "trials" / f"{trial:04d}").load()
    if state is None:
        why = (
            "" if found.state is State.COMPLETE else f" (it is {found.state}: weights are kept of complete trials only)"
        )
        raise UserError(f"trial {trial} of {record.name!r} has no checkpoint in {folder / 'trials'}{why}")
    config = with_params(TrialConfig(), found.config)
    store = open_training(config.data)
    if store.meta.content_hash != record.header.data.hash:
        raise UserError(f"{config.data.store} is no longer the data that {record.name!r} was trained on")
    scores: dict[str, Any] = state["report"]["metrics"]
    from gaptune.results.model_card import model_card

    card = model_card(record, found, scores, epoch=state["report"]["epoch"])
    export_model(config, store, state, beta=scores["temperature/beta"], card=card, out=out)
    return out

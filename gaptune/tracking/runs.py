"""A sweep's experiment and runs in MLflow: found, and created or restored where they are missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gaptune.ledger import SweepRecord
from gaptune.tracking.changes import Known
from gaptune.tracking.failures import UnreachableError, UnusableError, explain
from gaptune.tracking.store import EXPERIMENT, find_experiment, sqlite_path
from gaptune.tracking.translate import (
    PARENT,
    SWEEP_ID,
    TRIAL,
    milliseconds,
    run_name,
    sweep_data,
    sweep_params,
    sweep_tags,
)
from gaptune.tracking.write import Requests, Tables, Writer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

_PAGE = 1000  # runs a request
_NAMES = [EXPERIMENT, *(f"{EXPERIMENT}-{number}" for number in range(2, 10))]


@dataclass
class SweepRuns:
    """A sweep in MLflow.

    Attributes:
        client: MLflow's client.
        experiment: The experiment of all sweeps.
        parent: The sweep's run.
        runs: Runs by trial.
        writer: Writer of trials.
    """

    client: MlflowClient
    experiment: Experiment
    parent: Known
    runs: dict[int, Known]
    writer: Writer


def find_or_create(
    client: MlflowClient, uri: str, results: Path, record: SweepRecord, *, seen: bool, say: Callable[[str], None]
) -> SweepRuns:
    """Finds what MLflow has of a sweep, and adds what is missing. Every step may fail and be repeated.

    Args:
        client: MLflow's client.
        uri: MLflow's tracking URI.
        results: Directory of all sweeps.
        record: The sweep.
        seen: Whether the sweep was found before, so that what is missing now has been deleted.
        say: Callback that prints a line if something had been deleted.

    Raises:
        UnusableError: No experiment can be used.
        Exception: Any error of MLflow.
    """
    search = _Search(client, _usable_experiment(client, uri, results, seen=seen, say=say), say)
    parent = _usable_parent(search, record, seen=seen)
    runs = _usable_children(search, record, parent.run_id)
    path = sqlite_path(uri)
    direct = path is not None and Tables.fits(path)
    writer = Tables(path, search.experiment) if path and direct else Requests(client, search.experiment)
    return SweepRuns(client, search.experiment, parent, runs, writer)


@dataclass
class _Search:
    client: MlflowClient
    experiment: Experiment
    say: Callable[[str], None]

    def runs(self, query: str) -> Iterator[Run]:
        """All runs, including deleted ones."""
        from mlflow.entities import ViewType

        token, where = None, [str(self.experiment.experiment_id)]
        while True:
            page = self.client.search_runs(where, query, ViewType.ALL, max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def restore(self, runs: Sequence[Run], what: str) -> None:
        """Restores deleted runs."""
        deleted = [run for run in runs if run.info.lifecycle_stage != "active"]
        for run in deleted:
            self.client.restore_run(run.info.run_id)
        if deleted:
            self.say(f"{what} had been deleted in MLflow: restored")


def _usable_experiment(
    client: MlflowClient, uri: str, results: Path, *, seen: bool, say: Callable[[str], None]
) -> Experiment:
    """The experiment of all sweeps; restored if it was deleted, or else another one with a similar name."""
    from mlflow.exceptions import MlflowException

    for name in _NAMES:
        found = find_experiment(client, name)
        if found is None:
            _create_experiment(client, uri, results, name)
            if seen:
                say(f"experiment {name!r} had been deleted in MLflow for good: created again")
        elif found.lifecycle_stage == "deleted":
            try:
                client.restore_experiment(found.experiment_id)
            except MlflowException as error:
                if isinstance(explain(error, uri), UnreachableError):
                    raise
                continue
            say(f"experiment {name!r} had been deleted in MLflow: restored")
        else:
            return found
        made = find_experiment(client, name)
        if made is not None:
            return made
    raise UnusableError(f"MLflow at {uri} has no experiment that can be used: tried {', '.join(_NAMES)}")


def _create_experiment(client: MlflowClient, uri: str, results: Path, name: str) -> None:
    from mlflow.exceptions import MlflowException

    place = (results / "mlartifacts").resolve().as_uri() if sqlite_path(uri) is not None else None
    # Older UIs go by this tag, newer ones by the reader's choice or by the address (gaptune.tracking.links).
    kind = {"mlflow.experimentKind": "custom_model_development"}
    try:
        client.create_experiment(name, artifact_location=place, tags=kind)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another sweep was quicker
            raise


def _usable_parent(search: _Search, record: SweepRecord, *, seen: bool) -> Known:
    """The sweep's run, with everything that it has from the beginning."""
    header = record.header
    found = list(search.runs(f"tags.`{SWEEP_ID}` = '{header.id}'"))
    found.sort(key=lambda run: (run.info.lifecycle_stage != "active", run.info.start_time))
    tags = sweep_tags(header)
    if found:
        search.restore(found[:1], f"the run of sweep {record.name!r}")
        parent, inputs = Known.read(found[0]), found[0].inputs
        has_data = inputs is not None and bool(inputs.dataset_inputs)
    else:
        where, at = str(search.experiment.experiment_id), milliseconds(header.at)
        run = search.client.create_run(where, at, tags, run_name(header.name))
        parent, has_data = Known(str(run.info.run_id), tags=tags), False
        if seen:
            search.say(f"the run of sweep {record.name!r} had been deleted in MLflow for good: created again")
    _complete(search.client, record, parent, tags, has_data=has_data)
    return parent


def _complete(
    client: MlflowClient, record: SweepRecord, parent: Known, tags: dict[str, str], *, has_data: bool
) -> None:
    """Adds missing tags, fixed parameters and data to a sweep's run."""
    from mlflow.entities import Dataset, DatasetInput, Param, RunTag

    header = record.header
    params = [Param(name, value) for name, value in sweep_params(header).items() if name not in parent.params]
    missing = [RunTag(key, value) for key, value in tags.items() if key not in parent.tags]
    if params or missing:
        client.log_batch(parent.run_id, [], params, missing)
    if not has_data:
        data = sweep_data(header)
        dataset = Dataset(
            name=data["name"],
            digest=data["digest"],
            source_type="local",
            source=json.dumps(data["source"]),
            profile=json.dumps(data["profile"]),
        )
        client.log_inputs(parent.run_id, datasets=[DatasetInput(dataset)])


def _usable_children(search: _Search, record: SweepRecord, parent: str) -> dict[int, Known]:
    found: dict[int, Run] = {}
    for run in search.runs(f"tags.`{PARENT}` = '{parent}'"):
        number = run.data.tags.get(TRIAL, "")
        if number.isdecimal() and int(number) in record.trials:
            other = found.get(int(number))
            if other is None or other.info.lifecycle_stage != "active":
                found[int(number)] = run
    deleted = [run for run in found.values() if run.info.lifecycle_stage != "active"]
    search.restore(deleted, f"{len(deleted)} trial{'' if len(deleted) == 1 else 's'} of sweep {record.name!r}")
    return {number: Known.read(run) for number, run in found.items()}

"""Keeps a sweep in MLflow up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaptune.ledger import SweepRecord
from gaptune.tracking.changes import Change, difference
from gaptune.tracking.failures import UnusableError, explain, is_gone
from gaptune.tracking.links import LOCAL
from gaptune.tracking.runs import SweepRuns, find_or_create
from gaptune.tracking.store import open_client, quieten, resolve_uri, sqlite_path
from gaptune.tracking.translate import FRONT, FRONT_RANK, description_tag, front_tags, milliseconds, sweep_status

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Mirror:
    """Writes the state of one sweep to MLflow; every call may fail, and may be repeated.

    Args:
        uri: MLflow's tracking URI; None for the SQLite store in the results directory.
        results: Directory of all sweeps; artifacts of a SQLite store go to ``mlartifacts`` in it.

    Attributes:
        uri: The URI, absolute.
        complete: Whether the sweep's run has its files too.

    Raises:
        UserError: The URI is empty.
    """

    def __init__(self, uri: str | None, results: Path) -> None:
        quieten()
        self.uri = resolve_uri(uri, results)
        self.complete = False
        self._results = results
        self._client: MlflowClient | None = None
        self._file: tuple[int, int] | None = None
        self._has: SweepRuns | None = None
        self._seen = False
        self._notices: list[str] = []

    def write(self, record: SweepRecord, trials: Iterable[int] | None = None) -> list[str]:
        """Brings MLflow up to date; after an error, and the first time, all of it.

        Args:
            record: The sweep's state; a driver may be adding to it.
            trials: Trials that have changed; None for all.

        Returns:
            Notices for the user, such as that an experiment was restored; once each.

        Raises:
            UnreachableError: MLflow is unreachable.
            UserError: The store cannot be used.
        """
        with self._explained():
            self._twice(lambda: self._write(record, trials))
        said, self._notices = self._notices, []
        return said

    def add_files(self, record: SweepRecord) -> None:
        """Adds the two YAML files to the artifacts of the sweep's run, if they are missing.

        Raises:
            UnreachableError: The artifact store is unreachable.
            UserError: The artifact store cannot be used.
        """
        has = self._has
        if self.complete or has is None:
            return
        with self._explained():
            there = {file.path for file in has.client.list_artifacts(has.parent.run_id)}
            for name, content in (("space", record.header.space), ("sweep", record.header.config)):
                if f"{name}.yaml" not in there:
                    has.client.log_dict(has.parent.run_id, dict(content), f"{name}.yaml")
            self.complete = True

    def log_results(
        self, record: SweepRecord, numbers: Mapping[str, float], ranks: Mapping[int, int], note: str, files: list[Path]
    ) -> None:
        """Writes the results of the sweep. Only trials on the front are tagged.

        Args:
            record: The sweep.
            numbers: Metrics of the sweep as a whole.
            ranks: By trial, its rank on the front: 1 for the best first objective.
            note: Description of the sweep's run, in Markdown.
            files: Artifacts; missing files are left out.

        Raises:
            UnreachableError: MLflow is unreachable.
            UserError: The store cannot be used.
        """
        from mlflow.entities import Metric, RunTag

        at = milliseconds(record.updated_at)
        tags = [RunTag(key, value) for key, value in description_tag(note).items()]

        def send() -> None:
            has = self._has or self._write(record, None)
            metrics = [Metric(name, value, at, 0) for name, value in numbers.items()]
            has.client.log_batch(has.parent.run_id, metrics, [], tags)
            _tag_front(has, ranks)

        with self._explained():
            self._twice(send)
        self.add_files(record)
        with self._explained():
            for path in files:
                if path.exists() and self._has is not None:
                    self._has.client.log_artifact(self._has.parent.run_id, str(path))

    @property
    def pages(self) -> str:
        """Address of the MLflow UI: the server, or the one of ``gaptune ui``."""
        return self.uri if self.uri.startswith("http") else LOCAL

    def runs(self) -> dict[str, Any] | None:
        """Ids of the experiment, the sweep's run, and the trials' runs by number; None if not known."""
        has = self._has
        if has is None:
            return None
        trials = {number: run.run_id for number, run in list(has.runs.items())}
        return {"experiment": str(has.experiment.experiment_id), "sweep": has.parent.run_id, "trials": trials}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Classifies errors. After one nothing is known: a request whose answer was lost may have created a run."""
        opening = self._client is None
        try:
            yield
        except Exception as error:
            self._forget()
            known = explain(error, self.uri, opening=opening)
            if known is error:
                raise
            raise known from error

    def _forget(self) -> None:
        self._has, self.complete = None, False

    def _twice(self, call: Callable[[], object]) -> None:
        """Repeats a call if a run or the experiment may have been deleted, which a new search shows."""
        try:
            call()
        except Exception as error:
            if not is_gone(error):
                raise
        else:
            return
        self._forget()
        call()

    def _write(self, record: SweepRecord, trials: Iterable[int] | None) -> SweepRuns:
        self._check_file()
        has = self._has
        if has is None:
            has, trials = self._look(record), None
        numbers = list(record.trials) if trials is None else [one for one in trials if one in record.trials]
        parent = has.parent.run_id
        changes = [difference(record, record.trials[one], parent, has.runs.get(one)) for one in sorted(numbers)]
        has.writer.write([change for change in changes if change], has.runs)
        _write_status(has, record)
        self._has = has
        return has

    def _look(self, record: SweepRecord) -> SweepRuns:
        if self._client is None:
            self._client = open_client(self.uri)
            path = sqlite_path(self.uri)
            self._file = (path.stat().st_dev, path.stat().st_ino) if path is not None else None
        has = find_or_create(self._client, self.uri, self._results, record, seen=self._seen, say=self._notices.append)
        self._seen = True
        return has

    def _check_file(self) -> None:
        """Refuses a store that was removed while it was open: it would accept everything and keep nothing."""
        path = sqlite_path(self.uri)
        if path is None or self._file is None:
            return
        stat = path.stat() if path.exists() else None
        if stat is None or (stat.st_dev, stat.st_ino) != self._file:
            raise UnusableError(f"MLflow's store {path} has been removed or replaced while it was in use")


def _write_status(has: SweepRuns, record: SweepRecord) -> None:
    parent = has.parent
    status, end = sweep_status(record)
    for number, known in has.runs.items():  # those whose lines the ledger has lost are not resumed
        if end is not None and number not in record.trials and known.status == "RUNNING":
            has.client.set_terminated(known.run_id, "KILLED", end)
            known.status = "KILLED"
    if status == parent.status and end in (None, parent.end):
        return
    if end is None:
        has.client.update_run(parent.run_id, status=status)
    else:
        has.client.set_terminated(parent.run_id, status, end)
    parent.status, parent.end = status, end


def _tag_front(has: SweepRuns, ranks: Mapping[int, int]) -> None:
    """Tags the trials on the front, and removes the tags of others."""
    changes = []
    for number, known in has.runs.items():
        tags = front_tags(ranks.get(number))
        missing = {key: value for key, value in tags.items() if known.tags.get(key) != value}
        changes.append(Change(number, known.run_id, "", 0, missing))
        for key in ({FRONT, FRONT_RANK} & known.tags.keys()) - tags.keys():
            has.client.delete_tag(known.run_id, key)
            del known.tags[key]
    has.writer.write([change for change in changes if change], has.runs)

"""Two ways to write trials: by MLflow's client, or many runs at once into the tables of a SQLite store.

MLflow's client takes three requests per trial, each of them several transactions of SQLAlchemy's objects: 15 ms, where
the tables take less than one. The tables are written only if they have the columns that are known here; otherwise the
client is used.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from gaptune.tracking.changes import Change, Known
from gaptune.tracking.failures import GoneError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

_BUSY_S = 5.0
_AT_ONCE = 500  # runs per transaction: other processes write to the store, too
_TABLES = {
    "runs": "run_uuid name source_type source_name entry_point_name user_id status start_time end_time source_version "
    "lifecycle_stage artifact_uri experiment_id deleted_time",
    "tags": "key value run_uuid",
    "params": "key value run_uuid",
    "metrics": "key value timestamp run_uuid step is_nan",
    "latest_metrics": "key value timestamp step is_nan run_uuid",
}


class Writer(Protocol):
    """Writes changes of trials, and records in ``runs`` what has been written."""

    def write(self, changes: Sequence[Change], runs: dict[int, Known]) -> None:
        """Writes changes.

        Args:
            changes: Changes to write.
            runs: What MLflow has of each trial; kept up to date.

        Raises:
            GoneError: A run or the experiment has been deleted.
        """
        ...


class Requests:
    """Writes with MLflow's client: to servers, and to any store.

    Args:
        client: MLflow's client.
        experiment: The experiment of all sweeps.
    """

    def __init__(self, client: MlflowClient, experiment: Experiment) -> None:
        self._client = client
        self._experiment = str(experiment.experiment_id)

    def write(self, changes: Sequence[Change], runs: dict[int, Known]) -> None:
        """Writes changes, see ``Writer``: at most three requests a trial. A run's status is the last of them."""
        from mlflow.entities import Metric, Param, RunTag

        for change in changes:
            known, tags = runs.get(change.trial), change.tags
            if known is None:
                made = self._client.create_run(self._experiment, change.start, tags, change.name)
                known = runs[change.trial] = Known(str(made.info.run_id), tags=dict(tags))
                tags = {}
            if change.points or change.params or tags:
                self._client.log_batch(
                    known.run_id,
                    [Metric(point.metric, point.value, point.at, point.epoch) for point in change.points],
                    [Param(key, value) for key, value in change.params.items()],
                    [RunTag(key, value) for key, value in tags.items()],
                )
            if change.status == "RUNNING":
                self._client.update_run(known.run_id, status="RUNNING")
            elif change.status is not None:
                self._client.set_terminated(known.run_id, change.status, change.end)
            known.take(change)


class Tables:
    """Writes into the tables of a SQLite store, hundreds of runs in one transaction.

    Args:
        path: File of the store.
        experiment: The experiment of all sweeps.
    """

    def __init__(self, path: Path, experiment: Experiment) -> None:
        self._path = path
        self._experiment = experiment

    @staticmethod
    def fits(path: Path) -> bool:
        """Whether the store's tables have the columns that are known here."""
        with closing(_connect(path)) as database:
            return all(
                {row[1] for row in database.execute(f"PRAGMA table_info({table})")} == set(columns.split())
                for table, columns in _TABLES.items()
            )

    def write(self, changes: Sequence[Change], runs: dict[int, Known]) -> None:
        """Writes changes, see ``Writer``; a transaction is written completely or not at all."""
        for start in range(0, len(changes), _AT_ONCE):
            some = changes[start : start + _AT_ONCE]
            ids = {change.trial: change.run_id or uuid.uuid4().hex for change in some}
            with _transaction(self._path) as database:
                self._check_active(database, [change.run_id for change in some if change.run_id is not None])
                self._insert(database, some, ids)
            for change in some:
                runs.setdefault(change.trial, Known(ids[change.trial])).take(change)

    def _check_active(self, database: sqlite3.Connection, run_ids: Sequence[str]) -> None:
        """Raises for deleted runs, which are still in the tables."""
        marks = ", ".join("?" * len(run_ids))
        active = f"SELECT count(*) FROM runs WHERE lifecycle_stage = 'active' AND run_uuid IN ({marks})"
        experiment = "SELECT count(*) FROM experiments WHERE lifecycle_stage = 'active' AND experiment_id = ?"
        if database.execute(active, run_ids).fetchone()[0] < len(run_ids):
            raise GoneError("a trial's run has been deleted")
        if not database.execute(experiment, (int(self._experiment.experiment_id),)).fetchone()[0]:
            raise GoneError("the experiment has been deleted")

    def _insert(self, database: sqlite3.Connection, changes: Sequence[Change], ids: dict[int, str]) -> None:
        from mlflow.utils.uri import append_to_uri_path

        home, new = self._experiment.artifact_location, [change for change in changes if change.run_id is None]
        database.executemany(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, "
            "start_time, source_version, lifecycle_stage, artifact_uri, experiment_id) "
            "VALUES (?, ?, 'UNKNOWN', '', '', 'unknown', 'RUNNING', ?, '', 'active', ?, ?)",
            [
                (
                    ids[change.trial],
                    change.name,
                    change.start,
                    append_to_uri_path(home, ids[change.trial], "artifacts"),  # type: ignore[no-untyped-call]
                    int(self._experiment.experiment_id),
                )
                for change in new
            ],
        )
        names = [("mlflow.runName", change.name, ids[change.trial]) for change in new]
        database.executemany(
            "INSERT OR REPLACE INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
            names + [(key, value, ids[one.trial]) for one in changes for key, value in one.tags.items()],
        )
        database.executemany(
            "INSERT OR IGNORE INTO params (key, value, run_uuid) VALUES (?, ?, ?)",
            [(key, value, ids[one.trial]) for one in changes for key, value in one.params.items()],
        )
        points = [(p.metric, p.value, p.at, p.epoch, ids[one.trial]) for one in changes for p in one.points]
        database.executemany(
            "INSERT OR IGNORE INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?)",
            points,
        )
        database.executemany(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?) "
            "ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value, timestamp = excluded.timestamp, "
            "step = excluded.step, is_nan = 0 "
            "WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)",
            list({(point[0], point[4]): point for point in points}.values()),  # points are in order: the last of each
        )
        database.executemany(
            "UPDATE runs SET status = ?, end_time = coalesce(?, end_time) WHERE run_uuid = ?",
            [(one.status, one.end, ids[one.trial]) for one in changes if one.status is not None],
        )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=_BUSY_S, isolation_level=None)


@contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(_connect(path)) as database:
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
        except BaseException:
            database.rollback()
            raise
        database.commit()

"""MLflow's tracking store: its URI, whether it can be used, and how it is opened."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from gaptune.tracking.failures import UnreachableError, UnusableError, explain, hint

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

T = TypeVar("T")

EXPERIMENT = "gaptune"
ASK_S = 5.0
"""Seconds within which a working store answers."""


@dataclass(frozen=True)
class StoreState:
    """Result of one request to a store.

    Attributes:
        uri: Tracking URI, absolute.
        answers: Whether the store can be written to now, or be created.
        why: Why not; empty if it can.
        highest: Highest trial number of the sweep in the store, including deleted runs; None if there is none, or if it
            is not known.
    """

    uri: str
    answers: bool
    why: str
    highest: int | None


def default_uri(results: Path) -> str:
    """URI of the SQLite store in the results directory."""
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"


def resolve_uri(uri: str | None, results: Path) -> str:
    """A tracking URI that means the same in every working directory.

    Args:
        uri: Tracking URI from the user; None for the SQLite store in the results directory.
        results: Directory of all sweeps.

    Raises:
        UnusableError: The URI is empty.
    """
    if uri is None:
        return default_uri(results)
    if not uri.strip():
        raise UnusableError("the tracking URI is empty; leave it out for the SQLite store in the results directory")
    path = sqlite_path(uri)
    return uri if path is None else f"sqlite:///{path.absolute()}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite store; None for other stores."""
    found = re.fullmatch(r"sqlite(?:\+pysqlite)?:///([^?]+)", uri)
    return None if found is None or found[1].startswith((":memory:", "file:")) else Path(found[1])


def check_store(uri: str | None, results: Path, sweep_id: str | None = None) -> StoreState:
    """Sends MLflow's store one request, waits a few seconds at most, and changes nothing.

    Args:
        uri: Tracking URI; None for the SQLite store in the results directory.
        results: Directory of all sweeps.
        sweep_id: Id of a sweep whose highest trial number is returned.

    Raises:
        UserError: The store cannot be used: a bad URI, no database, a schema of another version, missing credentials,
            no permission to write.
    """
    where = resolve_uri(uri, results)
    quieten()
    try:
        path = sqlite_path(where)
        if path is not None:
            return StoreState(where, True, "", limited(2 * ASK_S, lambda: _ask_sqlite(path, where, sweep_id)))
        client = open_client(where)
        highest = limited(ASK_S, lambda: _ask(client, sweep_id))
    except Exception as error:
        known = explain(error, where, opening=True)
        if isinstance(known, UnreachableError):
            return StoreState(where, False, str(known), None)
        raise known from None
    return StoreState(where, True, "", highest)


def open_client(uri: str) -> MlflowClient:
    """MLflow's client for a store, which is created if it does not exist.

    Raises:
        Exception: Any error of MLflow; ``explain`` classifies it.
    """
    from mlflow import MlflowClient

    quieten()
    path = sqlite_path(uri)
    if path is not None:
        _ask_sqlite(path, uri, None)
        if not path.exists():
            _create_sqlite(path)
    elif uri.split(":")[0].split("+")[0] in ("postgresql", "mysql", "mssql"):
        limited(ASK_S, lambda: _connect(uri))  # MLflow itself would try for minutes
    elif uri.startswith("databricks"):
        with suppress(ImportError):  # its absence has a message of MLflow's
            import_module("databricks.sdk")  # seconds on a busy machine, which must not count as no answer
    elif uri.startswith("sqlite:"):
        raise UnusableError(f"MLflow at {uri} cannot be used (it is not a file); {hint(uri)}")
    return MlflowClient(tracking_uri=uri)


def find_experiment(client: MlflowClient, name: str) -> Experiment | None:
    """An experiment by its name, deleted or not.

    Raises:
        UnusableError: The server is not MLflow.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.name != name:
        uri = str(client.tracking_uri)
        raise UnusableError(f"what answers at {uri} is not MLflow; {hint(uri)}")
    return found


def limited(seconds: float, call: Callable[[], T]) -> T:
    """Calls a function that may hang, in a thread, and waits some seconds for its result.

    Raises:
        UnreachableError: There is no result by then.
        Exception: Any error of the function.
    """
    back: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            back.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="mlflow-limited", daemon=True)
    thread.start()
    thread.join(max(seconds, 0.0))
    if raised:
        raise raised[0]
    if not back:
        raise UnreachableError(f"MLflow is unreachable (no answer within {seconds:.0f} s)")
    return back[0]


def quieten() -> None:
    """Sets short timeouts and silences MLflow's own messages: the tracker retries, and prints its own."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent", "mlflow.utils.databricks_utils"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def _ask(client: MlflowClient, sweep_id: str | None) -> int | None:
    from mlflow.entities import ViewType

    experiment = find_experiment(client, EXPERIMENT)
    if experiment is None or sweep_id is None:
        return None
    where = [str(experiment.experiment_id)]
    parents = client.search_runs(where, f"tags.`gaptune.sweep_id` = '{sweep_id}'", ViewType.ALL, max_results=10)
    queries = [f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'" for parent in parents]
    numbers = [
        int(run.data.tags["gaptune.trial"])
        for query in queries
        for order in ("attributes.start_time DESC", "attributes.run_name DESC")  # names begin with the number
        for run in client.search_runs(where, query, ViewType.ALL, max_results=100, order_by=[order])
    ]
    return max(numbers, default=None)


def _ask_sqlite(path: Path, uri: str, sweep_id: str | None) -> int | None:
    """Checks that a SQLite store can be written to; returns the highest trial number of a sweep."""
    if not path.exists():
        above = next(folder for folder in path.parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise UnusableError(f"MLflow's store {path} cannot be created: {above} is not writable")
        return None
    if not path.is_file():
        raise UnusableError(f"MLflow's store {path} is not a file; move it away, or give another --tracking-uri")
    if not (os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):
        raise UnusableError(f"MLflow's store {path} is not writable; give another --tracking-uri")
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=ASK_S)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        database.execute("BEGIN IMMEDIATE")  # fails for a read-only or locked database; writes nothing
        database.rollback()
        if "experiments" not in tables:
            if any(not name.startswith("alembic_") for name in tables):
                raise UnusableError(f"{path} is a database of another program; give another --tracking-uri")
            return None
        _check_schema(database, path, uri)
        if sweep_id is None:
            return None
        (highest,) = database.execute(
            """
            SELECT max(CAST(number.value AS INTEGER)) FROM tags AS sweep
            JOIN tags AS parent ON parent.key = 'mlflow.parentRunId' AND parent.value = sweep.run_uuid
            JOIN tags AS number ON number.key = 'gaptune.trial' AND number.run_uuid = parent.run_uuid
            WHERE sweep.key = 'gaptune.sweep_id' AND sweep.value = ?
            """,
            (sweep_id,),
        ).fetchone()
        return None if highest is None else int(highest)


def _check_schema(database: sqlite3.Connection, path: Path, uri: str) -> None:
    """Refuses a store of another version: MLflow would migrate an older one silently, and fail for a newer one."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    if database.execute("SELECT count(*) FROM experiments").fetchone()[0] == 0:
        return  # not set up completely: MLflow continues its setup
    found = [version for (version,) in database.execute("SELECT version_num FROM alembic_version")]
    expected = _get_latest_schema_revision()  # type: ignore[no-untyped-call]
    if found != [expected]:
        raise UnusableError(
            f"MLflow's store {path} was made by another version of MLflow (schema {', '.join(found)}, here "
            f"{expected}). Copy it, then bring it up to date: mlflow db upgrade {uri}. If it is newer, update MLflow"
        )


def _create_sqlite(path: Path) -> None:
    """Creates a store in one step: MLflow's own way has several steps, and cannot resume after some of them."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as name:
        partial = Path(name) / path.name
        artifacts = str(path.parent / "mlartifacts")
        store = SqlAlchemyStore(f"sqlite:///{partial}", artifacts)  # type: ignore[no-untyped-call]
        store.engine.dispose()
        with suppress(FileExistsError):  # another process was quicker
            try:
                os.link(partial, path)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                if not path.exists():
                    partial.rename(path)


def _connect(uri: str) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()

"""The ledger in MLflow: a parent run for the sweep, a child run for each trial.

MLflow is written by one thread of the driver and is always behind the ledger, never in its way: a tracker that is slow
or down delays what the UI shows and nothing else. Everything written carries the ledger's own time stamps, so that
writing it again (after an outage, a crash, or into an empty store) changes nothing that is already there.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaptune.ledger import Event, State, SweepRecord, TrialRecord
from gaptune.methods import expand_method
from gaptune.pages import LOCAL

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "gaptune"
_NOTE = "mlflow.note.content"  # what the UI shows as a run's description
_STATUS = {
    State.WAITING: "RUNNING",
    State.RUNNING: "RUNNING",
    State.COMPLETE: "FINISHED",
    State.PRUNED: "KILLED",
    State.FAIL: "FAILED",
}
_BATCH = 1000  # metrics per request: MLflow's own limit
_PATIENCE_S = 20.0  # how long the end of a sweep waits for a tracker that does not answer


def default_uri(results: Path) -> str:
    """The SQLite store beside the sweeps."""
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"


class UnreachableError(ConnectionError):
    """MLflow does not answer."""


class Mirror:
    """Writes the state of one sweep to MLflow; every call may be repeated.

    Args:
        uri: MLflow's tracking URI.
        results: Folder of all sweeps; artifacts of a SQLite store go to ``mlartifacts`` in it.
    """

    def __init__(self, uri: str, results: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # our own thread tries again, for longer
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)  # what goes wrong is raised, and told in our words
        self._uri = uri
        self._results = results
        self._made_client: MlflowClient | None = None
        self._parent: str | None = None
        self._experiment = ""
        self._children: dict[int, str] = {}
        self._finished: set[int] = set()
        self._killed: set[str] = set()

    def write(self, record: SweepRecord, events: Iterable[Event]) -> None:
        """Brings MLflow up to date with some events.

        Args:
            record: The sweep's state, at least as new as the events.
            events: What has happened, in order; trials that MLflow already has in their final state are passed over.

        Raises:
            UnreachableError: MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._write(record, list(events))
        except MlflowException as fault:
            if "API request" in str(fault) or "Max retries" in str(fault):
                raise UnreachableError(f"MLflow at {self._uri} does not answer") from fault
            raise

    def _write(self, record: SweepRecord, events: list[Event]) -> None:
        parent = self._find_or_make_parent(record)
        touched: dict[int, list[Event]] = {}
        for event in events:
            if "trial" in event and (event["event"] == "scores" or event["trial"] not in self._finished):
                touched.setdefault(event["trial"], []).append(event)
        for number, happened in touched.items():
            self._write_trial(record, record.trials[number], happened)
        kinds = {event["event"] for event in events}
        if kinds & {"session", "pause", "done"}:
            self._write_status(parent, record)

    @property
    def pages(self) -> str:
        """Where MLflow's pages are: the server, or where ``gaptune ui`` opens them."""
        return self._uri if self._uri.startswith("http") else LOCAL

    def runs(self) -> dict[str, Any]:
        """Which run is whose: the experiment's id, the sweep's run, and the trials' by number."""
        return {"experiment": self._experiment, "sweep": self._parent, "trials": dict(self._children)}

    def log_front(self, ranks: Mapping[int, int], note: str) -> None:
        """Tags the members of the front, and nobody else, and says in the sweep's own note how it ended.

        Args:
            ranks: By trial, its place on the front: 1 for the best first objective.
            note: Markdown.
        """
        if self._parent is None:
            return
        client = self._client()
        tagged = client.search_runs(
            [self._experiment],
            f"tags.`mlflow.parentRunId` = '{self._parent}' AND tags.front = 'true'",
            max_results=1000,
        )
        for run in tagged:
            if int(run.data.tags["gaptune.trial"]) not in ranks:
                client.delete_tag(run.info.run_id, "front")
                client.delete_tag(run.info.run_id, "front_rank")
        for number, rank in ranks.items():
            client.set_tag(self._children[number], "front", "true")
            client.set_tag(self._children[number], "front_rank", str(rank))
        client.set_tag(self._parent, _NOTE, note)

    def log_artifacts(self, paths: Iterable[Path]) -> None:
        """Puts files beside the sweep's run."""
        if self._parent is not None:
            for path in paths:
                self._client().log_artifact(self._parent, str(path))

    def log_summary(self, metrics: dict[str, float], at: float) -> None:
        """Writes numbers about the sweep as a whole to its run."""
        from mlflow.entities import Metric

        if self._parent is not None:
            self._client().log_batch(
                self._parent, [Metric(name, value, int(at * 1000), 0) for name, value in metrics.items()]
            )

    def _client(self) -> MlflowClient:
        if self._made_client is None:
            from mlflow import MlflowClient

            self._made_client = MlflowClient(tracking_uri=self._uri)
        return self._made_client

    def _find_or_make_parent(self, record: SweepRecord) -> str:
        if self._parent is not None:
            return self._parent
        client, header = self._client(), record.header
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            local = self._uri.startswith("sqlite:")
            place = (self._results / "mlartifacts").resolve().as_uri() if local else None
            # Older pages go by this tag, newer ones by the reader's choice or by the address (gaptune.pages).
            kind = {"mlflow.experimentKind": "custom_model_development"}
            experiment_id = str(client.create_experiment(EXPERIMENT, artifact_location=place, tags=kind))
        else:
            experiment_id = str(experiment.experiment_id)
        self._experiment = experiment_id
        found = client.search_runs([experiment_id], f"tags.`gaptune.sweep_id` = '{header['id']}'", max_results=1)
        if found:
            self._parent = found[0].info.run_id
            self._find_children(experiment_id)
        else:
            self._parent = self._make_parent(experiment_id, record)
        return self._parent

    def _find_children(self, experiment_id: str) -> None:
        token = None
        while True:
            page = self._client().search_runs(
                [experiment_id],
                f"tags.`mlflow.parentRunId` = '{self._parent}'",
                max_results=1000,
                page_token=token,
            )
            for run in page:
                number = int(run.data.tags["gaptune.trial"])
                self._children[number] = run.info.run_id
                if run.info.status == "KILLED":
                    self._killed.add(run.info.run_id)
                if run.data.tags.get("gaptune.state") in (State.COMPLETE, State.PRUNED, State.FAIL):
                    self._finished.add(number)
            token = page.token
            if not token:
                return

    def _make_parent(self, experiment_id: str, record: SweepRecord) -> str:
        from mlflow.entities import Dataset, DatasetInput, Param

        header = record.header
        run = self._client().create_run(
            experiment_id,
            start_time=int(header["at"] * 1000),
            run_name=header["name"],
            tags={
                "gaptune.sweep_id": header["id"],
                "sweep": header["name"],
                "space": header["space"]["name"],
                "gaptune.version": header["versions"]["gaptune"],
                _NOTE: describe(header),
            },
        )
        run_id = str(run.info.run_id)
        fixed = {name: value for name, value in header["base"].items() if name not in header["varied"]}
        self._client().log_batch(run_id, params=[Param(name, str(value)) for name, value in fixed.items()])
        data = header["data"]
        dataset = Dataset(
            name=data["name"],
            digest=data["hash"][:36],
            source_type="local",
            source=json.dumps({"store": data["store"], "sha256": data["hash"]}),
            profile=json.dumps(data["splits"]),
        )
        self._client().log_inputs(run_id, datasets=[DatasetInput(dataset)])
        for name in ("space", "sweep"):
            self._client().log_dict(run_id, header[name], f"{name}.yaml")
        return run_id

    def _write_trial(self, record: SweepRecord, trial: TrialRecord, events: list[Event]) -> None:
        """One request for all that is new of a trial, and one more each to open, to resume and to close its run."""
        from mlflow.entities import Metric, Param, RunTag

        run_id = self._children.get(trial.number) or self._make_child(record, trial)
        params: list[Param] = []
        tags: dict[str, str] = {}
        metrics: list[Metric] = []
        for event in events:
            if event["event"] == "trial":
                knobs = {**expand_method(trial.knobs), **{k: v for k, v in trial.knobs.items() if k == "method"}}
                params = [Param(name, str(value)) for name, value in knobs.items()]
            elif event["event"] == "start":
                if run_id in self._killed:
                    self._client().update_run(run_id, status="RUNNING")
                    self._killed.discard(run_id)
                tags["node"] = event["node"]
            elif event["event"] == "report":
                at, epoch = int(event["at"] * 1000), event["epoch"]
                metrics += [Metric(name, value, at, epoch) for name, value in event["metrics"].items()]
            elif event["event"] == "scores":
                at, epoch = int(event["at"] * 1000), record.trials[event["trial"]].epoch
                metrics += [Metric(name, value, at, epoch) for name, value in event["metrics"].items()]
            elif event["event"] == "end":
                state = State(event["state"])
                self._client().set_terminated(run_id, _STATUS[state], int(event["at"] * 1000))
                if event["reason"]:
                    tags["reason"] = event["reason"]
                tags["gaptune.state"] = str(state)  # with the last of the metrics: it says that all is written
        *earlier, last = [metrics[start : start + _BATCH] for start in range(0, max(1, len(metrics)), _BATCH)]
        for batch in earlier:
            self._client().log_batch(run_id, batch)
        self._client().log_batch(run_id, last, params, [RunTag(name, value) for name, value in tags.items()])
        if "gaptune.state" in tags:
            self._finished.add(trial.number)

    def _make_child(self, record: SweepRecord, trial: TrialRecord) -> str:
        header = record.header
        run: Run = self._client().create_run(
            self._experiment,
            start_time=int(trial.drawn_at * 1000),
            run_name=f"{trial.number:04d} {trial.method} of {header['name']}",  # lists cut off all but its beginning
            tags={
                "mlflow.parentRunId": str(self._parent),
                "gaptune.trial": str(trial.number),
                "gaptune.state": str(State.RUNNING),
                "method": trial.method,
                "seed": str(trial.config.get("seed", "")),
                "space": header["space"]["name"],
                "sweep": header["name"],
                "data": header["data"]["hash"],
                _NOTE: ", ".join(f"{knob} = {value}" for knob, value in trial.knobs.items()),
            },
        )
        self._children[trial.number] = str(run.info.run_id)
        return self._children[trial.number]

    def _write_status(self, parent: str, record: SweepRecord) -> None:
        """Runs of a sweep that was interrupted are KILLED until it goes on; none is left RUNNING."""
        if record.paused is None and not record.done:
            self._client().update_run(parent, status="RUNNING")
            return
        at = int(record.updated_at * 1000)
        for number, run_id in self._children.items():
            if number not in self._finished:
                self._client().set_terminated(run_id, "KILLED", at)
                self._killed.add(run_id)
        self._client().set_terminated(parent, "FINISHED" if record.done else "KILLED", at)


class Tracker:
    """Feeds a ``Mirror`` from a thread.

    Args:
        mirror: Where events go.
        record: The sweep's state, kept up to date by the conductor.
        events: What happened before now, to be brought up to date first.
        say: Called with one line when the tracker goes away, and when it has come back.
    """

    def __init__(
        self, mirror: Mirror, record: SweepRecord, events: Iterable[Event], say: Callable[[str], None]
    ) -> None:
        self._mirror = mirror
        self._record = record
        self._say = say
        self._queue: queue.Queue[Event | None] = queue.Queue()
        self._closing: float | None = None
        self._behind = False
        for event in events:
            self._queue.put(event)
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Takes an event; never waits."""
        self._queue.put(event)

    def close(self, patience: float = _PATIENCE_S) -> bool:
        """Waits until all is written, or for some seconds when MLflow does not answer.

        Returns:
            Whether MLflow has everything.
        """
        self._closing = time.monotonic() + patience
        self._queue.put(None)
        self._thread.join()
        return not self._behind

    def _run(self) -> None:
        wait = 1.0
        pending: list[Event] = []
        last = False
        while not (last and not pending):
            if not last:
                drained = [self._queue.get()] if not pending else []
                while not self._queue.empty():
                    drained.append(self._queue.get())
                last = None in drained
                pending += [event for event in drained if event is not None]
            if not pending:
                continue
            try:
                self._mirror.write(self._record, pending)
            except Exception as fault:  # whatever a tracker does, trials go on
                if not self._behind:
                    self._say(f"MLflow does not answer ({_first_line(fault)}); trials go on, it will be caught up")
                self._behind = True
                if self._closing is not None and time.monotonic() > self._closing:
                    return
                time.sleep(min(wait, 1.0) if self._closing is not None else wait)
                wait = min(2 * wait, 15.0)
            else:
                pending.clear()
                wait = 1.0
                if self._behind:
                    self._say("MLflow answers again and has everything")
                self._behind = False


def _first_line(fault: Exception) -> str:
    text = str(fault).strip().splitlines()
    return f"{type(fault).__name__}: {text[0][:120]}" if text else type(fault).__name__


def describe(header: Event) -> str:
    """The sweep's note: what the sweep looks for and how it was started."""
    wanted = ", ".join(f"{'max' if o['maximize'] else 'min'} {o['metric']}" for o in header["objectives"])
    return f"Search space `{header['space']['name']}` for {wanted}.\n\n`{header['command']}`"

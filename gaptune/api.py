"""gaptune from Python: read a sweep, run one, train one trial. Heavy modules are imported where they are needed."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaptune.errors import UserError
from gaptune.ledger import FILE_NAME, SweepRecord, find_sweep
from gaptune.ledger.names import check_name, default_name
from gaptune.results import candidates as candidates_of
from gaptune.results import selection, summarize
from gaptune.results.read import read_sweep
from gaptune.results.view import view as view_of
from gaptune.storage.bundled import find
from gaptune.storage.paths import check_folder, local_path

if TYPE_CHECKING:
    import pandas as pd

    from gaptune.config import SweepConfig, TrialConfig
    from gaptune.space.model import Space
    from gaptune.trial import Report


@dataclass(frozen=True)
class Sweep:
    """A sweep as its ledger has it, finished or not.

    Attributes:
        record: Everything that is known of the sweep; the functions in ``gaptune.results`` take it.
        folder: Directory of the sweep.
    """

    record: SweepRecord
    folder: Path

    def __repr__(self) -> str:
        """Name, states of the trials, and directory."""
        counts: dict[str, int] = {}
        for trial in self.record.trials.values():
            counts[str(trial.state)] = counts.get(str(trial.state), 0) + 1
        trials = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none"
        return f"<Sweep {self.name!r}: trials {trials}; {self.folder}>"

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.record.name

    @property
    def hypervolume(self) -> float | None:
        """Hypervolume between reference point and ideal point that the front dominates, normalized to 0 to 1.

        None if there is no front (``why_no_front`` says why), or if the sweep config has no reference and ideal value
        for an objective of a view.
        """
        return summarize(self.record).hypervolume

    @property
    def why_no_front(self) -> str | None:
        """Why there is no front: no trial is complete, or the constraints exclude all of them; None if there is one."""
        summary = summarize(self.record)
        return None if summary.front else str(summary.unknown)

    @property
    def knee(self) -> int | None:
        """Number of the trial at the knee of the front; None if the front has no knee."""
        bend = selection.knee(self.record, summarize(self.record).front)
        return bend.trial.number if bend else None

    def view(self, objectives: Sequence[str] | str = (), constraints: Sequence[str] | str = ()) -> Sweep:
        """The same trials with other objectives or further constraints.

        Args:
            objectives: Two to four of ``metric``, ``metric:max`` or ``metric:min``; none for the sweep's own.
            constraints: ``metric<=value`` or ``metric>=value``.

        Raises:
            UserError: A metric is unknown, or an argument has another form.
        """
        return Sweep(view_of(self.record, objectives, constraints), self.folder)

    def front(self) -> pd.DataFrame:
        """The Pareto front: one row per candidate, best first objective first.

        Returns:
            Indexed by trial. Columns: ``method``, ``seeds``, ``parameter/…`` for what varied, and every metric under
            its own name (its mean over the seeds).
        """
        from gaptune.results.export import candidate_frame  # pandas

        return candidate_frame(self.record, summarize(self.record).front)

    def candidates(self) -> pd.DataFrame:
        """All candidates that were trained with the full budget, with the columns of ``front``."""
        from gaptune.results.export import candidate_frame

        return candidate_frame(self.record, candidates_of(self.record))

    def frame(self) -> pd.DataFrame:
        """All reports: one row per trial and report, with metrics, params and full configuration."""
        from gaptune.results.export import frame

        return frame(self.record)

    def best(self, preference: str | None = None) -> pd.Series[Any]:
        """One candidate on the front.

        Args:
            preference: A metric (for the candidate that is best in it), or ``METRIC within P%, then METRIC``; None for
                the knee, or for the best in the first objective if the front has no knee.

        Returns:
            The candidate's row of ``front()``; its name is the trial number.

        Raises:
            UserError: The preference has another form, or the front is empty.
        """
        from gaptune.results.export import candidate_frame

        summary = summarize(self.record)
        members = summary.front
        if not members:
            raise UserError(f"{self.name!r} has no front: {summary.unknown}")
        if preference:
            chosen = selection.pick(self.record, members, preference)
        else:
            chosen = selection.knee(self.record, members) or members[0]
        row: pd.Series[Any] = candidate_frame(self.record, [chosen]).iloc[0]
        return row


def load_sweep(name: str | None = None, results: Path | str | None = None) -> Sweep:
    """Reads a sweep.

    Args:
        name: Name of the sweep; ``example``, ``example-paper``, and ``example-paper-features`` are part of gaptune.
            None for the newest sweep in the results directory, or ``example`` if it has none.
        results: Directory of all sweeps; None for ``GAPTUNE_RESULTS``, or ``results`` in the working directory.

    Raises:
        UserError: The sweep does not exist, or its ledger cannot be read.
    """
    where = _results(results)
    newest = max(where.glob(f"*/{FILE_NAME}"), key=lambda path: path.stat().st_mtime, default=None)
    name = name or (newest.parent.name if newest else "example")
    return Sweep(read_sweep(where, name), find_sweep(where, name))


def run_sweep(
    space: Space | Path | str,
    sweep: SweepConfig | Path | str = "embedded.yaml",
    *,
    name: str | None = None,
    results: Path | str | None = None,
    tracking_uri: str | None = None,
    address: str | None = None,
) -> Sweep:
    """Runs a sweep, as ``gaptune sweep`` does, and prints its progress.

    Args:
        space: A search space, or its YAML file; gaptune's own files are found by name.
        sweep: A sweep config, or its YAML file.
        name: Name of the sweep; an existing sweep is resumed. The default is made from space and time.
        results: Directory of all sweeps, as in ``load_sweep``.
        tracking_uri: MLflow's tracking URI; None for ``MLFLOW_TRACKING_URI``, or the SQLite file in the results
            directory.
        address: Address of a Ray cluster; None for ``RAY_ADDRESS``, or this machine.

    Returns:
        The sweep; after an interruption ``record.paused`` has the reason, and the same call resumes the sweep.

    Raises:
        UserError: Something in space, sweep, data or model cannot work, or another process runs the sweep.
    """
    from gaptune.config import load_sweep_config
    from gaptune.console.live import Display
    from gaptune.console.terminal import Console
    from gaptune.engine.plan import prepare
    from gaptune.engine.session import run
    from gaptune.space.parse import load_space

    command = f"gaptune.run_sweep({_source(space)}, {_source(sweep)}, name={name!r})"
    if isinstance(space, str | Path):
        space = load_space(find(local_path(space), "search_spaces"))
    if isinstance(sweep, str | Path):
        sweep = load_sweep_config(find(local_path(sweep), "sweeps"))
    where = _results(results).resolve()
    check_folder(where, "results")
    name = default_name(space.name, where, time.time()) if name is None else check_name(name)
    address = address or os.environ.get("RAY_ADDRESS")
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI") or None if tracking_uri is None else tracking_uri
    told: dict[str, Any] = {"results": where, "now": time.time(), "command": command}
    plan = prepare(space, sweep, name=name, address=address, tracking_uri=tracking_uri, **told)
    with Display(Console(sys.stdout)) as display:
        record = run(
            plan,
            display=display,
            results=where,
            tracking_uri=tracking_uri,
            address=address,
            clock=time.time,
        )
    return Sweep(record, plan.folder)


def train(
    config: TrialConfig | Mapping[str, Any],
    sweep: Path | str = "embedded.yaml",
    *,
    checkpoints: Path | str | None = None,
) -> Iterator[Report]:
    """Trains one trial, as ``gaptune train`` does.

    Args:
        config: A full configuration; or params by dotted path, optionally with ``method``, that override those of a
            sweep config.
        sweep: YAML file of the sweep config, used if ``config`` has params only.
        checkpoints: Directory for checkpoints; the same call resumes from them.

    Returns:
        An iterator over reports (``epoch``, ``step``, ``metrics``), one after every
        ``training.evaluate_every`` epochs. The training runs only while you iterate.

    Raises:
        UserError: A parameter is unknown or invalid, model and data do not fit, or another process trains in the
            directory.
        NonFinite: The training diverged.
    """
    from gaptune.config import load_sweep_config
    from gaptune.engine.placement import with_device
    from gaptune.engine.preflight import check_trial
    from gaptune.space.methods import expand_method
    from gaptune.trial import train as train_trial

    if isinstance(config, Mapping):
        settings = load_sweep_config(find(local_path(sweep), "sweeps"))
        config = with_device(settings.trial(expand_method(config)), settings.resources)
    folder = None if checkpoints is None else local_path(checkpoints)
    if folder is not None:
        check_folder(folder, "checkpoints")
    store, sizes = check_trial(config)
    for remark in sizes.remarks:
        warnings.warn(remark, stacklevel=2)
    reports = train_trial(config, store, checkpoints=folder)
    return reports if folder is None else _alone(folder, reports)


def _alone(folder: Path, reports: Iterator[Report]) -> Iterator[Report]:
    from gaptune.trial.checkpoint import alone

    with alone(folder):
        yield from reports


def _source(given: object) -> str:
    """An argument as source text; an object is named by its type."""
    return repr(str(given)) if isinstance(given, str | Path) else f"<{type(given).__name__}>"


def _results(results: Path | str | None) -> Path:
    return local_path(results or os.environ.get("GAPTUNE_RESULTS", "results"))

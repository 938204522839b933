"""Runs a sweep in this process: starts or joins Ray, and drives a session on it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gaptune.engine.cluster import ray_for
from gaptune.engine.gpu_measurement import measured_plan
from gaptune.engine.placement import planned
from gaptune.engine.plan import Plan
from gaptune.engine.signals import stopping
from gaptune.ledger import SweepRecord
from gaptune.search.listener import Observer


def run(
    plan: Plan,
    *,
    display: Observer,
    results: Path,
    tracking_uri: str | None,
    address: str | None,
    clock: Callable[[], float],
) -> SweepRecord:
    """Runs a prepared sweep, or resumes it, until it is done or interrupted.

    Args:
        plan: The sweep, checked by ``prepare``.
        display: Shows the sweep.
        results: Directory of all sweeps.
        tracking_uri: MLflow's tracking URI; None for the SQLite store beside the sweeps.
        address: Address of a Ray cluster; None for this machine.
        clock: Seconds since 1970.

    Returns:
        The sweep's state at the end.

    Raises:
        UserError: Ray cannot be started or joined, no node has the resources that a trial needs, or another process
            runs the sweep.
        Stopped: A signal came before the ledger was opened.
    """
    for warning in plan.warnings:
        display.say(f"warning: {warning}")
    with ThreadPoolExecutor(1) as beside, stopping() as stop:
        loading = beside.submit(_load)  # Ray's start waits for seconds, which the imports can use
        with ray_for(plan.sweep.resources, address, stop):
            plan = measured_plan(plan, stop, display.say)
            display.say(f"{plan.lanes.unit} gets {planned(plan.sweep.resources, plan.gpus)}")
            drive = loading.result()
            with stop.held():  # from here on a signal must not interrupt a write
                return drive(plan, stop, display=display, results=results, tracking_uri=tracking_uri, clock=clock)


def _load() -> Callable[..., SweepRecord]:
    """The function that drives a session; its imports take seconds."""
    import mlflow  # noqa: F401

    from gaptune.engine.driver import drive

    return drive

"""How often a trial is retried: twice after failures of its own, and after each loss of its node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gaptune.engine.failures import Failure
from gaptune.engine.nodes import is_lost
from gaptune.text.words import counted

MAX_FAILURES = 2
"""How often a trial is retried after a failure of its own that may pass (an exception, a killed worker)."""

MAX_LOSSES = 5
"""After so many losses of a node in a row without a new report, the trial itself may be what ends them."""

_PATIENCE_S = 3.0
"""Seconds that a node gets to end after a worker whose end would be its trial's failure."""


class Retries:
    """Counts failures and lost nodes of trials of Ray, and decides whether to try again.

    A worker may end shortly before its node. So the end of a worker is the loss of its node if that does not answer,
    and an earlier one no longer counts if its node is lost by now.

    Args:
        name: Function that returns the name of a node.
        lost: Whether a node, by its id, is lost within some seconds.
    """

    def __init__(self, name: Callable[[str | None], str], lost: Callable[[str, float], bool] = is_lost) -> None:
        self._name = name
        self._lost = lost
        self._failures: dict[str, list[str | None]] = {}  # the nodes on which each trial has failed
        self._losses: dict[str, tuple[int, int]] = {}  # epoch of the newest report, losses since

    def after(self, trial: str, failure: Failure, node: str | None, epoch: int) -> Failure:
        """The failure as it counts: ``may_pass`` tells whether to try again.

        Args:
            trial: Name of the trial.
            failure: What is known of its failure.
            node: Id of the node on which it ran; a failure may tell another one, of one of several ranks.
            epoch: Epoch of its newest report.
        """
        if not failure.may_pass:
            return failure
        node = failure.node or node
        if failure.lost == "node":
            return self._after_loss(trial, node, epoch)
        earlier = [each for each in self._failures.get(trial, ()) if each is None or not self._lost(each, 0.0)]
        final = len(earlier) >= MAX_FAILURES
        if failure.lost == "worker" and node is not None and self._lost(node, _PATIENCE_S if final else 0.0):
            return self._after_loss(trial, node, epoch)
        self._failures[trial] = [*earlier, node]
        return replace(failure, may_pass=not final)

    def _after_loss(self, trial: str, node: str | None, epoch: int) -> Failure:
        before, losses = self._losses.get(trial, (epoch, 0))
        losses = losses + 1 if before == epoch else 1
        self._losses[trial] = epoch, losses
        reason = f"node lost: {self._name(node)}"
        if losses < MAX_LOSSES:
            return Failure(reason, lost="node", node=node)
        times = f"{counted(losses, 'node')} lost in a row without a new report of the trial"
        return Failure(f"{reason} ({times}, which may itself end them, by too much memory for example)", may_pass=False)

"""Which trials a worker trains together: as many as there are lanes, if they can be lanes of one training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gaptune.config import TrialConfig, unflatten
from gaptune.ledger import TrialRecord
from gaptune.search.orchestrator import Orchestrator


class Groups:
    """Hands out the trials of an orchestrator in groups, and keeps which groups run.

    A group never waits for trials: it ends before the first that does not fit, which begins the next group, and when no
    trial is left. If a group cannot continue for a reason that is not one trial's own, its trials resume in two halves
    from their checkpoints: only a trial that runs alone fails by what happens to its worker.

    Args:
        orchestrator: Orchestrator of the sweep.
        lanes: Largest number of trials in a group.
    """

    def __init__(self, orchestrator: Orchestrator, lanes: int) -> None:
        self._orchestrator = orchestrator
        self._lanes = lanes
        self._begun: TrialRecord | None = None
        self._again: deque[list[int]] = deque()
        self._running: dict[str, list[int]] = {}
        self._num_ended = 0  # when the groups whose trials have all ended were last taken out

    def next(self, name: str) -> list[TrialRecord]:
        """The next group.

        Args:
            name: Name under which it runs.

        Returns:
            Its trials; none if no trial is left now. More may come as long as ``pending``.
        """
        group = self._left_again() or self._drawn()
        if group:
            self._running[name] = [trial.number for trial in group]
        return group

    def left(self, name: str) -> list[int]:
        """The trials of a group that have not ended."""
        trials = self._orchestrator.record.trials
        return [number for number in self._running.get(name, ()) if not trials[number].state.ended]

    @property
    def running(self) -> int:
        """Number of groups with a trial that has not ended."""
        # Ray asks after each event, and a look at a thousand groups takes a millisecond.
        num_ended = len(self._orchestrator.record.trials) - self._orchestrator.live
        if num_ended != self._num_ended:
            self._num_ended = num_ended
            self._running = {name: left for name in self._running if (left := self.left(name))}
        return len(self._running)

    @property
    def pending(self) -> bool:
        """Whether further groups may come although no trial is left to draw: halves of one that cannot continue."""
        return bool(self._again) or any(len(self.left(name)) > 1 for name in self._running)

    def failed(self, name: str, reason: Callable[[int], str], *, too_large: bool = False) -> None:
        """Ends a group that cannot continue: a trial alone has failed, several are retried in two halves.

        Args:
            name: Name of the group.
            reason: Gives the reason for each trial.
            too_large: Whether further groups must be as small as the halves.
        """
        left = self.left(name)
        self._running.pop(name, None)
        if len(left) == 1:
            self._orchestrator.failed(left[0], reason(left[0]))
            return
        for number in left:
            self._orchestrator.retried(number, f"{reason(number)} (with {len(left)} lanes)")
        middle = (len(left) + 1) // 2
        self._again.extend(half for half in (left[:middle], left[middle:]) if half)
        if too_large:
            self._lanes = min(self._lanes, middle)

    def _left_again(self) -> list[TrialRecord]:
        """The next half whose trials have not all ended in the meantime."""
        trials = self._orchestrator.record.trials
        while self._again:
            half = [trials[number] for number in self._again.popleft()]
            if left := [trial for trial in half if not trial.state.ended]:
                return left
        return []

    def _drawn(self) -> list[TrialRecord]:
        group: list[TrialRecord] = []
        while len(group) < self._lanes:
            trial, self._begun = self._begun, None
            if trial is None or trial.state.ended:  # while it waited, for its candidate's other seeds
                trial = self._orchestrator.next_trial()
            if trial is None:
                break
            if group and _key(trial) != _key(group[0]):
                self._begun = trial
                break
            group.append(trial)
        return group


def _key(trial: TrialRecord) -> str:
    from gaptune.trial.lanes import lanes_key  # torch, which a driver without lanes need not import

    return lanes_key(TrialConfig.model_validate(unflatten(trial.config)))

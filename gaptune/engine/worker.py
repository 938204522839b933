"""The Ray side of trials: a thin adapter around ``Trainer``, in this process or in those of several ranks.

A worker is reused for further trials, because importing torch and open_clip costs seconds. It keeps no state of its own
across trials but the opened data store; a trial that is started again finds its own checkpoints.
"""

from __future__ import annotations

from typing import Any

from ray import tune

from gaptune.engine.messages import WorkerMessage, WorkerTask
from gaptune.engine.rank_group import RankGroup
from gaptune.engine.trainer import Trainer


class Worker(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """Runs the trials of its ``WorkerTask``, one report or several per ``step``; each result is a ``WorkerMessage``.

    A trial of one rank, or several trials as lanes, train in this process; a trial of several ranks in their processes,
    which end with this one. An exception that ``engine.failures`` does not know is left to Ray, which may try the
    trials again.
    """

    _trains: Trainer | RankGroup | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Notes trials. The first step starts them: what can fail or hang there is known by its own name."""
        self._task = WorkerTask.from_ray(config)
        self._started = False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Notes other trials for the same processes."""
        if self._trains is not None:
            self._trains.clear()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains until the next report."""
        if not self._task.trials:
            return WorkerMessage().to_ray()
        if self._trains is None:
            self._trains = Trainer() if self._task.ranks == 1 else RankGroup()
        if not self._started:
            self._started = True
            message = self._trains.start(self._task)
            if message.ends:
                return message.to_ray()
        return self._trains.step().to_ray()

    def cleanup(self) -> None:
        """Leaves nothing of the trials on this node that the storage has, and no process."""
        if self._trains is not None:
            self._trains.clear()
        if isinstance(self._trains, RankGroup):
            self._trains.end()

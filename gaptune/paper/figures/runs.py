"""The runs behind figures 1 to 4, kept between calls."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaptune.paper.theory.setup import open_setup
from gaptune.storage.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gaptune.paper.theory.clip_runs import LongRun


Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar of a name and a length; what it gives is called with the number done."""


def figure2() -> Figure:
    """Free features on the sphere, for three parameterizations of the temperature."""
    from gaptune.paper.figures.theory import flow_figure
    from gaptune.paper.theory.features import free_flow, random_features
    from gaptune.paper.theory.scales import Scale

    x, y = (random_features(128, 32, seed, spread=0.5) for seed in (0, 1))
    scales = (Scale("exp"), Scale("softplus"), Scale("fixed"))
    return flow_figure({scale.name: free_flow(scale, x, y, decades=6.0) for scale in scales})


def figure3() -> Figure:
    """Parallel modalities."""
    from gaptune.paper.figures.theory import parallel_figure

    return parallel_figure()


class Runs:
    """The trainings of a real CLIP, kept in a folder as soon as they are done.

    Args:
        folder: Where they are kept.
        sweep_file: The sweep config that names model and data.
        epochs: Epochs of the long runs.
        starts: Number of random initializations.
        progress: Shows how far a training is.
    """

    def __init__(self, folder: Path, sweep_file: Path, epochs: int, starts: int, progress: Progress) -> None:
        self._folder = folder
        self._sweep_file = sweep_file
        self._epochs = epochs
        self._starts = starts
        self._progress = progress

    def figure1(self) -> Figure:
        """Principal components of the features after a long run, from a random start and from a closed gap."""
        from gaptune.paper.figures.theory import pca_figure

        random, closed = self._long_run(closed_first=False), self._long_run(closed_first=True)
        panels = {"(a) from a random start": (random.x, random.y), "(b) from a closed gap": (closed.x, closed.y)}
        return pca_figure(panels)

    def figure4(self) -> Figure:
        """The gap over a long run, and its change in the first steps from many starts."""
        import numpy as np

        from gaptune.paper.figures.theory import real_figure
        from gaptune.paper.theory.clip_runs import first_steps

        kept = self._folder / f"first-steps-{self._sweep_file.stem}-{self._starts}.npz"
        if not kept.exists():
            config, store = open_setup(self._sweep_file)
            with self._progress("first steps", self._starts) as show:
                changes = first_steps(config, store, starts=self._starts, progress=show)
            _keep(kept, {"changes": changes})
        run = self._long_run(closed_first=False)
        with np.load(kept, allow_pickle=False) as arrays:
            return real_figure(run.step, run.gap, arrays["changes"])

    def _long_run(self, *, closed_first: bool) -> LongRun:
        from dataclasses import asdict

        import numpy as np

        from gaptune.paper.theory.clip_runs import LongRun, long_run

        what = "closed-start" if closed_first else "random-start"
        kept = self._folder / f"long-run-{what}-{self._sweep_file.stem}-{self._epochs}.npz"
        if not kept.exists():
            config, store = open_setup(self._sweep_file)
            with self._progress(what, self._epochs) as show:
                run = long_run(config, store, epochs=self._epochs, closed_first=closed_first, progress=show)
            _keep(kept, asdict(run))
        with np.load(kept, allow_pickle=False) as arrays:
            return LongRun(**arrays)


def _keep(path: Path, arrays: dict[str, Any]) -> None:
    """Writes arrays in one step, so that an interrupted write is not taken for a finished run."""
    import numpy as np

    with replacing(path, ending=path.suffix) as partial:
        np.savez_compressed(partial, **arrays)

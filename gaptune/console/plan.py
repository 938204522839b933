"""The plan of a sweep, before it starts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gaptune.config.document import flow
from gaptune.console.tables import make_table
from gaptune.engine.placement import planned
from gaptune.engine.plan import Plan
from gaptune.engine.preflight import left_over, megabytes
from gaptune.search.samplers import make_sampler
from gaptune.space.model import RandomDraw, Space
from gaptune.text.words import counted


def describe_space(space: Space, samples: int) -> RenderableType:
    """The parameters of a space, its points to evaluate or its grid, and random samples.

    Args:
        space: The space.
        samples: Number of random samples.
    """
    rows = []
    for parameter in space.parameters:
        values = ", ".join(f"{kind}: {flow(value)}" for kind, value in parameter.distribution.to_dict().items())
        when = "; ".join(f"{name}: {flow(list(allowed))}" for name, allowed in parameter.when.items())
        rows.append([parameter.name, values, when])
    parts = [make_table(["parameter", "values", "only when"], rows, title=f"search space {space.name}")]
    if space.grid:
        combinations = space.combinations()
        parts.append(_params_table(f"grid: {counted(len(combinations), 'candidate')}", combinations))
    elif space.points_to_evaluate:
        parts.append(_params_table("points to evaluate", list(space.points_to_evaluate)))
    if samples and not space.grid:
        rng = np.random.default_rng(0)
        drawn = [space.suggest(RandomDraw(rng)) for _ in range(samples)]
        parts.append(_params_table("random samples", drawn))
    return Group(*parts)


def describe_plan(plan: Plan) -> RenderableType:
    """A sweep in words: its candidates, model, data, objectives, and resources."""
    sweep, data = plan.sweep, plan.header.data
    wanted = ", ".join(f"{one.goal} {one.metric}" for one in sweep.wanted)
    done = sum(event["event"] == "end" for event in plan.earlier)
    exists = f" (exists: {counted(done, 'trial has', 'trials have')} ended)" if plan.earlier else ""
    lines = [
        f"sweep      {plan.name}{exists}",
        f"directory  {plan.folder}",
        f"search     {_search(plan)}",
        f"objectives {wanted}",
        f"model      {sweep.model.name}, {counted(plan.sizes.weights, 'weight')}",
        f"data       {data.store}: {_images(data.splits)}, hash {data.hash[:12]}",
        f"training   {_training(plan)}",
        f"{plan.lanes.unit:10} {planned(sweep.resources, plan.gpus)}",
        f"lanes      {plan.lanes}",
        f"disk       {_disk(plan)}",
        *([f"MLflow     {plan.mlflow}; it is updated later"] if plan.mlflow else []),
        *(f"warning    {warning}" for warning in plan.warnings),
    ]
    words = Text("\n".join(lines), no_wrap=True, overflow="ignore")  # paths and hashes must stay whole
    return Group(words, describe_space(plan.space, 3))


def _search(plan: Plan) -> str:
    """The number of trainings, and how their params are chosen."""
    seeds = plan.sweep.search.seeds
    number = counted(plan.num_candidates, "candidate")
    if seeds > 1:
        number += f" x {seeds} seeds = {counted(plan.num_candidates * seeds, 'trial')}"
    sampler = type(make_sampler(plan.sweep.search, 0)).__name__
    return f"{number}, " + ("the whole grid" if plan.space.grid else f"sampler {sampler}")


def _images(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {split}" for split, number in splits.items()) + " images"


def _training(plan: Plan) -> str:
    """The length of a training, with the sweep's own values of what the space varies."""
    training = plan.sweep.training
    images = plan.header.data.splits["train"]
    steps, out = images // training.batch_size, left_over(images, training.batch_size)
    varied = [name for name in ("training.epochs", "training.batch_size") if name in plan.space.varied()]
    pairs = counted(training.batch_size, "pair")
    return (
        f"{counted(training.epochs, 'epoch')} of {counted(steps, 'step')} of {pairs}"
        + (f" (the space varies {' and '.join(varied)})" if varied else "")
        + (" at most: some are stopped early" if plan.sweep.early_stopping.method != "none" else "")
        + (f"; {out}" if out else "")
    )


def _disk(plan: Plan) -> str:
    each = f"checkpoints of up to {megabytes(plan.sizes.checkpoints)} for each running trial"
    if plan.side_by_side is None or plan.side_by_side == 1:
        return each
    return f"{each}, {megabytes(plan.sizes.checkpoints * plan.side_by_side)} for {plan.side_by_side} in parallel"


def _params_table(title: str, rows: list[dict[str, object]]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    headings = [name.replace(".", "\n", 1) for name in names]
    return make_table(headings, [[row.get(name) for name in names] for row in rows], title=title)

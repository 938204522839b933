"""What a search would do, before it does it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gaptune.config.document import flow
from gaptune.console.tables import short
from gaptune.engine.plan import Plan
from gaptune.engine.preflight import left_over, megabytes
from gaptune.search.samplers import make_sampler
from gaptune.space.model import RandomDraw, Space


def describe_space(space: Space, draws: int) -> RenderableType:
    """The parameters of a space, the points tried first or the whole grid, and some random draws.

    Args:
        space: The space.
        draws: How many random draws to show.
    """
    params = Table(box=SIMPLE_HEAD, title=f"search space {space.name}", title_justify="left", pad_edge=False)
    for name in ("parameter", "values", "only when"):
        params.add_column(name)
    for parameter in space.parameters:
        values = ", ".join(f"{kind}: {flow(value)}" for kind, value in parameter.distribution.to_dict().items())
        when = "; ".join(f"{name}: {flow(list(allowed))}" for name, allowed in parameter.when.items())
        params.add_row(Text(parameter.name), Text(values), Text(when))
    parts: list[RenderableType] = [params]
    if space.grid:
        combinations = space.combinations()
        parts.append(_rows(f"the grid: {len(combinations)} trials", combinations))
    elif space.points_to_evaluate:
        parts.append(_rows("tried first", list(space.points_to_evaluate)))
    if draws and not space.grid:
        rng = np.random.default_rng(0)
        parts.append(_rows("random draws", [space.suggest(RandomDraw(rng)) for _ in range(draws)]))
    return Group(*parts)


def describe_plan(plan: Plan) -> RenderableType:
    """A whole sweep in words: how many trials, of what, where, for what."""
    sweep, data = plan.sweep, plan.header.data
    wanted = ", ".join(f"{one.goal} {one.metric}" for one in sweep.wanted)
    sampler = type(make_sampler(sweep.search, 0)).__name__
    done = sum(event["event"] == "end" for event in plan.earlier)
    lines = [
        f"sweep      {plan.name}" + (f" (exists: {done} trials have ended)" if plan.earlier else ""),
        f"folder     {plan.folder}",
        f"trials     {plan.num_candidates}, " + ("the whole grid" if plan.space.grid else f"sampler {sampler}"),
        f"objectives {wanted}",
        f"model      {sweep.model.name}, {plan.sizes.weights:,} weights",
        f"data       {data.store}: {_images(data.splits)}, hash {data.hash[:12]}",
        f"training   {_trainings(plan)}",
        f"each trial {sweep.resources.cpu} CPU, {sweep.resources.gpu:g} GPU",
        f"disk       {_disk(plan)}",
        *([f"MLflow     {plan.mlflow}; it is caught up later"] if plan.mlflow else []),
        *(f"warning    {warning}" for warning in plan.warnings),
    ]
    words = Text("\n".join(lines), no_wrap=True, overflow="ignore")  # paths and hashes are to be copied whole
    return Group(words, describe_space(plan.space, 3))


def _images(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {split}" for split, number in splits.items()) + " images"


def _trainings(plan: Plan) -> str:
    """How many trainings there are, and how long: those of the sweep's own values, where the space varies them."""
    training, seeds = plan.sweep.training, plan.sweep.search.seeds
    trials = (
        f"{plan.num_candidates} x {seeds} seeds = {plan.num_candidates * seeds}"
        if seeds > 1
        else f"{plan.num_candidates}"
    )
    images = plan.header.data.splits["train"]
    steps, out = images // training.batch_size, left_over(images, training.batch_size)
    varied = [name for name in ("training.epochs", "training.batch_size") if name in plan.space.varied()]
    return (
        f"{trials} trainings of {training.epochs} epochs of {steps:,} steps of {training.batch_size} pairs"
        + (f" (the space varies {' and '.join(varied)})" if varied else "")
        + (" at most: some are stopped early" if plan.sweep.early_stopping.method != "none" else "")
        + (f"; {out}" if out else "")
    )


def _disk(plan: Plan) -> str:
    each = f"checkpoints of up to {megabytes(plan.sizes.checkpoints)} for each trial under way"
    if plan.side_by_side is None or plan.side_by_side == 1:
        return each
    return f"{each}, {megabytes(plan.sizes.checkpoints * plan.side_by_side)} for {plan.side_by_side} side by side"


def _rows(title: str, rows: list[dict[str, object]]) -> Table:
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        table.add_column(name.replace(".", "\n", 1))
    for row in rows:
        table.add_row(*(short(row.get(name)) for name in names))
    return table

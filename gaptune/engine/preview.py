"""What a search would do, before it does it."""

from __future__ import annotations

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gaptune.engine.study import make_sampler
from gaptune.engine.sweep import Plan
from gaptune.results.table import short
from gaptune.space import RandomDraw, Space


def describe_space(space: Space, draws: int) -> RenderableType:
    """The knobs of a space, the points tried first or the whole grid, and some random draws.

    Args:
        space: The space.
        draws: How many random draws to show.
    """
    knobs = Table(box=SIMPLE_HEAD, title=f"search space {space.name}", title_justify="left", pad_edge=False)
    for name in ("knob", "values", "only when"):
        knobs.add_column(name)
    for knob in space.knobs:
        values = ", ".join(f"{kind} {value}" for kind, value in knob.distribution.to_dict().items())
        when = "; ".join(f"{name} in {list(allowed)}" for name, allowed in knob.when.items())
        knobs.add_row(knob.name, values, when)
    parts: list[RenderableType] = [knobs]
    if space.grid:
        combinations = space.combinations()
        parts.append(_rows(f"the grid: {len(combinations)} trials", combinations))
    elif space.points:
        parts.append(_rows("tried first", list(space.points)))
    if draws and not space.grid:
        rng = np.random.default_rng(0)
        parts.append(_rows("random draws", [space.suggest(RandomDraw(rng)) for _ in range(draws)]))
    return Group(*parts)


def describe_plan(plan: Plan) -> RenderableType:
    """A whole sweep in words: how many trials, of what, where, for what."""
    sweep, data = plan.sweep, plan.header["data"]
    wanted = ", ".join(f"{'max' if o.maximize else 'min'} {o.metric}" for o in sweep.objectives)
    sampler = type(make_sampler(sweep.search, 0)).__name__
    done = sum(event["event"] == "end" for event in plan.earlier)
    lines = [
        f"sweep      {plan.name}" + (f" (exists: {done} trials have ended)" if plan.earlier else ""),
        f"folder     {plan.folder}",
        f"trials     {plan.budget}, " + ("the whole grid" if plan.space.grid else f"sampler {sampler}"),
        f"objectives {wanted}",
        f"model      {sweep.model.name}, {sweep.training.epochs} epochs, batch {sweep.training.batch_size}",
        f"data       {data['store']}: {data['splits']} images, hash {data['hash'][:12]}",
        f"each trial {sweep.resources.cpu} CPU, {sweep.resources.gpu:g} GPU",
    ]
    return Group(Text("\n".join(lines)), describe_space(plan.space, 3))


def _rows(title: str, rows: list[dict[str, object]]) -> Table:
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        table.add_column(name.replace(".", "\n", 1))
    for row in rows:
        table.add_row(*(short(row.get(name)) for name in names))
    return table

"""The front of a sweep, for any objectives and constraints. As a notebook: ``gaptune notebook front``."""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import os
    from pathlib import Path

    import marimo as mo

    import gaptune

    results = Path(os.environ.get("GAPTUNE_RESULTS", "results"))
    ledgers = sorted(results.glob("*/ledger.jsonl"), key=lambda path: path.stat().st_mtime)
    names = [path.parent.name for path in ledgers] or ["example"]
    choice = mo.ui.dropdown(names, value=names[-1], label="sweep")
    choice  # noqa: B018  (a cell shows its last expression)
    return choice, gaptune, mo, results


@app.cell
def _(choice, gaptune, mo, results):
    from gaptune.metrics.table import METRICS

    sweep = gaptune.load_sweep(choice.value, results)
    own = sweep.record.objectives.metrics
    judged = [name for name in sweep.frame().columns if name in METRICS and METRICS[name].direction != "none"]
    objectives = mo.ui.multiselect(judged, value=own, label="objectives (2 to 4)", max_selections=4)
    constraints = mo.ui.text(label="constraints, such as geometry/gap<=0.5; with commas between them", full_width=True)
    mo.vstack([objectives, constraints])
    return constraints, objectives, own, sweep


@app.cell
def _(constraints, mo, objectives, own, sweep):
    import tempfile
    from pathlib import Path as _Path

    from gaptune.errors import UserError
    from gaptune.results import summarize
    from gaptune.results.plots.front import plot_front
    from gaptune.text.markup import for_markdown

    chosen = [] if list(objectives.value) == own else objectives.value
    try:
        seen = sweep.view(chosen, [part for part in constraints.value.split(",") if part.strip()])
    except UserError as error:
        seen = sweep
        complaint = mo.callout(str(error), kind="warn")
    else:
        complaint = mo.md("")
    found = seen.front().dropna(axis="columns", how="all").reset_index()
    metrics = seen.record.objectives.metrics
    shown = ["trial", "method", *dict.fromkeys([*metrics, "geometry/gap", "temperature/tau"])]
    table = found[
        [*(name for name in shown if name in found), *(name for name in found if name.startswith("parameter/"))]
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = _Path(folder) / "front.png"
        plot_front(seen.record, summarize(seen.record), file)
        image = mo.image(file.read_bytes())
    mo.vstack(
        [complaint, mo.md(f"{len(table)} on the front of **{for_markdown(seen.name)}**"), image, mo.ui.table(table)]
    )
    return (table,)


if __name__ == "__main__":
    app.run()

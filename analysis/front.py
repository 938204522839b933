"""The front of a sweep: choose it, see it. Plain Python; as a notebook: ``marimo edit analysis/front.py``."""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import os
    from pathlib import Path

    import marimo as mo

    results = Path(os.environ.get("GAPTUNE_RESULTS", "results"))
    ledgers = sorted(results.glob("*/ledger.jsonl"), key=lambda path: path.stat().st_mtime)
    names = [path.parent.name for path in ledgers]
    mo.stop(not names, mo.md(f"No sweep in `{results}` yet: `gaptune sweep search_spaces/temp.yaml`"))
    choice = mo.ui.dropdown(names, value=names[-1], label="sweep")
    choice  # noqa: B018  (a cell shows its last expression)
    return choice, mo, results


@app.cell
def _(choice, mo, results):
    import pandas as pd

    from gaptune.ledger import load
    from gaptune.results import summarize
    from gaptune.results.plot import plot_front
    from gaptune.results.table import candidate_row

    record = load(results / choice.value)
    summary = summarize(record)
    table = pd.DataFrame([candidate_row(record, candidate) for candidate in summary.front])
    plot_front(record, summary, results / choice.value / "front.png")
    mo.vstack(
        [
            mo.md(f"hypervolume **{summary.hypervolume:.4f}**, trials: {dict(summary.counts)}"),
            mo.image(results / choice.value / "front.png"),
            mo.ui.table(table),
        ]
    )
    return (table,)


if __name__ == "__main__":
    app.run()

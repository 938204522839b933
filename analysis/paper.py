"""The tables and claims of the paper, by own runs (``gaptune reproduce``). A notebook: ``gaptune notebook paper``."""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import os
    from pathlib import Path

    import marimo as mo

    from gaptune.ledger import load

    results = Path(os.environ.get("GAPTUNE_RESULTS", "results"))
    ledgers = sorted(results.glob("*/ledger.jsonl"), key=lambda path: path.stat().st_mtime)
    records = {path.parent.name: load(path.parent) for path in ledgers}
    names = [name for name, record in records.items() if "method" in record.header["varied"]]
    mo.stop(not names, mo.md(f"No sweep over the paper's methods in `{results}` yet: `gaptune reproduce`"))
    choice = mo.ui.dropdown(names, value=names[-1], label="sweep")
    choice  # noqa: B018  (a cell shows its last expression)
    return choice, mo, records


@app.cell
def _(choice, mo, records):
    from gaptune.results.paper_table import paper_markdown

    table = paper_markdown(records[choice.value])
    mo.md(table)
    return (table,)


if __name__ == "__main__":
    app.run()

"""The paper's tables, claims and figures by own runs. As a notebook: ``gaptune notebook paper``."""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import os
    from pathlib import Path

    import marimo as mo

    from gaptune.ledger import load
    from gaptune.storage.bundled import example

    results = Path(os.environ.get("GAPTUNE_RESULTS", "results"))
    ledgers = sorted(results.glob("*/ledger.jsonl"), key=lambda path: path.stat().st_mtime)
    folders = {name: example(name) for name in ("example-paper", "example-paper-features")}
    folders |= {path.parent.name: path.parent for path in ledgers}
    records = {name: load(folder) for name, folder in folders.items()}
    names = [name for name, record in records.items() if "method" in record.header.varied]
    choice = mo.ui.dropdown(names, value=names[-1], label="sweep over the paper's methods")
    choice  # noqa: B018  (a cell shows its last expression)
    return choice, folders, mo, records


@app.cell
def _(choice, folders, mo, records):
    from gaptune.paper.tables import paper_markdown

    record = records[choice.value]
    table = paper_markdown(record, folders[choice.value])
    mo.md(table)
    return record, table


@app.cell
def _(mo, record):
    import io

    from gaptune.errors import UserError
    from gaptune.paper.figures.methods import downstream_figure, methods_figure, retrieval_figure

    drawn = {}
    for title, figure in {
        "What each method does (figure 5)": methods_figure,
        "Retrieval against gap and uniformity (figure 6)": retrieval_figure,
        "Zero-shot and linear probe against gap and uniformity (figure 7)": downstream_figure,
    }.items():
        try:
            file = io.BytesIO()
            figure(record).savefig(file, dpi=150)
            drawn[title] = mo.image(file.getvalue(), alt=title)
        except UserError as error:  # a sweep whose data have no labels, or of which nothing is completed yet
            drawn[title] = mo.callout(str(error), kind="warn")
    mo.vstack([part for title, shown in drawn.items() for part in (mo.md(f"## {title}"), shown)])
    return (drawn,)


if __name__ == "__main__":
    app.run()

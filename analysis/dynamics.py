"""Gap, temperature and uniformity over training; where embeddings end. As a notebook: ``gaptune notebook dynamics``."""

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
    sweep = gaptune.load_sweep(choice.value, results)
    frame = sweep.frame()
    methods = sorted(frame["method"].unique())
    shown = mo.ui.multiselect(methods, value=methods[:6], label="methods (mean over their trials)")
    shown  # noqa: B018
    return frame, shown, sweep


@app.cell
def _(frame, mo, shown):
    from matplotlib.figure import Figure

    from gaptune.results.plots.styles import COLORS, MARKERS
    from gaptune.text.markup import for_plot

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    reported = frame.dropna(subset=["epoch"])
    table = reported[reported["method"].isin(shown.value)]
    for axes, metric in zip(figure.subplots(1, 3), ("geometry/gap", "temperature/tau", "uniformity/w2"), strict=True):
        if metric not in table:
            continue
        for name, curve in table.groupby("method"):
            index = shown.value.index(name)
            mean = curve.groupby("epoch")[metric].mean()
            marker, color = MARKERS[index % len(MARKERS)], COLORS[index % len(COLORS)]
            axes.plot(mean.index, mean.values, marker=marker, color=color, label=for_plot(name))
        axes.set_xlabel("epoch")
        axes.set_ylabel(for_plot(metric))
        axes.grid(alpha=0.25)
    figure.axes[1].set_yscale("log")
    figure.axes[1].yaxis.set_major_formatter("{x:g}")
    figure.axes[1].yaxis.set_minor_formatter("{x:g}")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    mo.as_html(figure)
    return (table,)


@app.cell
def _(mo, sweep):
    from matplotlib.figure import Figure as _Figure

    from gaptune.report.content import content

    pca = content(sweep.record, sweep.folder, mlflow_url="", price=None)["pca"]
    if pca:
        sample_figure = _Figure(figsize=(4 * len(pca), 3.8), layout="constrained")
        for place, (trial, found) in zip(
            sample_figure.subplots(1, len(pca), squeeze=False)[0], pca.items(), strict=True
        ):
            for image, text in zip(found["images"], found["texts"], strict=True):
                place.plot(*zip(image, text, strict=True), color="0.8", linewidth=0.7, zorder=1)
            place.scatter(*zip(*found["images"], strict=True), color="#0072B2", marker="o", s=14, label="images")
            place.scatter(*zip(*found["texts"], strict=True), color="#E69F00", marker="^", s=14, label="texts")
            place.set_aspect("equal")
            place.set_title(f"trial {trial}")
        sample_figure.axes[0].legend(fontsize=8)
        drawn = mo.as_html(sample_figure)
    else:
        drawn = mo.md("The trials of this front have left no sample of embeddings beside their checkpoints.")
    drawn  # noqa: B018
    return (pca,)


if __name__ == "__main__":
    app.run()

"""Old names from 0.1.0: refused in input with a hint to the new name, and translated in old records."""

from __future__ import annotations

PARAMETERS = {"temperature.share": "temperature.schedule_fraction"}
"""Dotted paths of parameters."""

VALUES = {"learnt": "learned", "halving": "asha"}
"""Values of ``temperature.schedule`` and ``early_stopping.method``."""

SPACE_KEYS = {"knobs": "params", "points": "points_to_evaluate"}
"""Keys of a search space."""

CONFIG_KEYS = {
    "temperature": {"share": "schedule_fraction"},
    "search": {"trials": "candidates"},
    "early_stopping": {
        "rule": "method",
        "eta": "reduction_factor",
        "first": "min_fraction",
        "moving": "settling_ratio",
    },
}
"""Keys of a sweep config, by group."""

MODELS = {"linear-heads": "heads"}
"""Names of models."""

TASKS = {"pairs": "mmvp"}
"""Evaluation tasks and kinds of data sets."""

METRICS = {
    "zeroshot/accuracy": "zeroshot/top1",
    "probe/accuracy": "probe/top1",
    "train/swapped": "train/swapped_fraction",
}
"""Metrics on a trial's own data."""

TASK_METRICS = {
    "zeroshot_top1": "zeroshot/top1",
    "zeroshot_top5": "zeroshot/top5",
    "zeroshot_mean_recall": "zeroshot/mean_per_class_recall",
    "probe_top1": "probe/top1",
    "knn_top1": "knn/top1",
    "pairs_accuracy": "mmvp/accuracy",
    **{f"retrieval_{way}_r{k}": f"retrieval/{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)},
}
"""Metrics of an evaluation, without the prefix of its name."""

OPTIONS = {
    "--on": "--config",
    "--trials": "--candidates",
    "--picture": "--plot",
    "--val-share": "--val-fraction",
    "--draws": "--samples",
}
"""Command-line options."""

COMMANDS = {"promote": "transfer"}
"""Command names."""

MOVED_OPTIONS = {
    "front": {
        "--importance": "gaptune importance NAME",
        "--fanova": "gaptune importance NAME --fanova",
        "--method": "gaptune importance NAME --method METHOD",
        "--correlation": "gaptune correlations NAME",
        "--unfinished": "gaptune failures NAME",
    }
}
"""Options that have become commands, by the command that had them."""

EXAMPLES = {"recorded": "example", "recorded-paper": "example-paper"}
"""Names of the example sweeps."""


def metric_name(name: str) -> str:
    """The current name of a metric."""
    if name in METRICS:
        return METRICS[name]
    evaluation, _, rest = name.partition("/")
    return f"{evaluation}/{TASK_METRICS[rest]}" if rest in TASK_METRICS else name


def current_name(name: str) -> str | None:
    """The current name for an old one; None if the name has not changed."""
    new = metric_name(name)
    if new != name:
        return new
    groups = (PARAMETERS, VALUES, SPACE_KEYS, *CONFIG_KEYS.values(), MODELS, TASKS, OPTIONS, COMMANDS, EXAMPLES)
    return next((group[name] for group in groups if name in group), None)

"""Ledgers of schema 1, as gaptune 0.1.0 wrote them: their events in the words of today.

Only names differ; ``linear-heads`` becomes ``heads`` with the options that it stands for. A translated event is the
same when it is translated again, so a ledger that a newer gaptune has resumed, and that holds lines of both schemas,
needs no special case.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from gaptune.text.renamed import (
    CONFIG_KEYS,
    METRICS,
    MODELS,
    PARAMETERS,
    SPACE_KEYS,
    TASK_METRICS,
    TASKS,
    VALUES,
    metric_name,
)

Event = dict[str, Any]

_LINEAR_HEADS = {"head": "linear", "width": 128, "dropout": 0.0, "bias": False, "normalize": False}
"""What ``heads`` has to say to be the model ``linear-heads``."""

_OLD = (
    b'"schema":1,',
    b'"schema":1}',
    b'"suggestion":',
    b'"budget":',
    b'"event":"scores"',
    *(f'{name}"'.encode() for name in (*METRICS, *TASK_METRICS, *PARAMETERS, *MODELS)),
)


def is_old(content: bytes) -> bool:
    """Whether some lines of a ledger, or of a trial's own file, have names of schema 1."""
    return any(mark in content for mark in _OLD)  # three times as fast as one expression for all of them


def translate(event: Event) -> Event:
    """An event of schema 1 as schema 2 has it."""
    event = dict(event)
    match event["event"]:
        case "sweep":
            return _header(event)
        case "session":
            if "budget" in event:
                event["candidates"] = event.pop("budget")
            if isinstance(event.get("sweep"), dict):
                event["sweep"] = _header(event["sweep"])
        case "trial":
            if "suggestion" in event:
                event["candidate"], event["params"] = event.pop("suggestion"), event.pop("knobs")
            event["params"], event["config"] = _flat(event["params"]), _flat(event["config"])
        case "report":
            event["metrics"] = _metrics(event["metrics"])
        case "scores":
            event |= {"event": "metrics", "metrics": _metrics(event["metrics"])}
    return event


def config_text(text: str) -> str:
    """A checkpoint's configuration in JSON: that of schema 1 in the words of today, any other as it is."""
    config = json.loads(text)
    new = _nested(config)
    return text if new == config else json.dumps(new, sort_keys=True)


def _header(header: Event) -> Event:
    """The header, of which a damaged ledger may lack parts."""
    header = dict(header)
    if "sweep" in header:
        header["config"] = header.pop("sweep")
    change: dict[str, Callable[[Any], Any]] = {
        "config": _nested,
        "space": _space,
        "base": _flat,
        "varied": lambda names: [PARAMETERS.get(name, name) for name in names],
        "objectives": lambda entries: [_of_metric(entry) for entry in entries],
        "known": lambda trials: [[_flat(one[0]), *one[1:]] for one in trials],
    }
    return header | {key: function(header[key]) for key, function in change.items() if key in header} | {"schema": 2}


def _space(space: Mapping[str, Any]) -> dict[str, Any]:
    space = {SPACE_KEYS.get(key, key): value for key, value in space.items()}
    params = {PARAMETERS.get(name, name): _entry(name, entry) for name, entry in space.get("params", {}).items()}
    return space | {"params": params, "points_to_evaluate": [_flat(point) for point in space["points_to_evaluate"]]}


def _entry(name: str, entry: Any) -> Any:
    if not isinstance(entry, dict):
        return _value(name, entry)
    entry = dict(entry)
    if "choice" in entry:
        entry["choice"] = [_value(name, value) for value in entry["choice"]]
    if "when" in entry:
        entry["when"] = {
            PARAMETERS.get(other, other): [_value(other, value) for value in values]
            if isinstance(values, list)
            else _value(other, values)
            for other, values in entry["when"].items()
        }
    return entry


def _flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted path."""
    flat = {PARAMETERS.get(name, name): _value(name, value) for name, value in params.items()}
    if flat.get("model.name") in MODELS:
        flat |= {f"model.{key}": value for key, value in _model({"name": flat["model.name"]}).items()}
    return flat | ({"evaluate": _evaluations(flat["evaluate"])} if "evaluate" in flat else {})


def _value(name: str, value: Any) -> Any:
    return VALUES.get(value, value) if name == "temperature.schedule" and isinstance(value, str) else value


def _model(config: Mapping[str, Any]) -> dict[str, Any]:
    name = config.get("name")
    return {**config, **_LINEAR_HEADS, "name": MODELS[name]} if name in MODELS else dict(config)


def _nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration by groups."""
    config = dict(config)
    for group, renamed in CONFIG_KEYS.items():
        if group in config:
            config[group] = {renamed.get(key, key): value for key, value in config[group].items()}
    for group, key in (("temperature", "schedule"), ("early_stopping", "method")):
        if isinstance(config.get(group, {}).get(key), str):
            config[group][key] = VALUES.get(config[group][key], config[group][key])
    if isinstance(config.get("model"), dict):
        config["model"] = _model(config["model"])
    for name in ("objectives", "constraints"):
        if name in config:
            config[name] = [_of_metric(entry) for entry in config[name]]
    return config | ({"evaluate": _evaluations(config["evaluate"])} if "evaluate" in config else {})


def _evaluations(entries: list[Any]) -> list[Any]:
    return [
        entry | {"tasks": [TASKS.get(task, task) for task in entry["tasks"]]}
        if isinstance(entry, dict) and "tasks" in entry
        else entry
        for entry in entries
    ]


def _of_metric(entry: Mapping[str, Any]) -> dict[str, Any]:
    return dict(entry) | {"metric": metric_name(entry["metric"])}


def _metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    return {metric_name(name): value for name, value in metrics.items()}

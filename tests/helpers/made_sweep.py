"""A made-up sweep: the example's header, with trials of a test's own. Nothing is trained."""

import copy

from gaptune.ledger import FILE_NAME, encode, load, read_events
from gaptune.storage.bundled import example

PARAMS = {
    "temperature.tau_start": {"log_uniform": [0.01, 0.3], "when": {}},
    "temperature.schedule_fraction": {"uniform": [0.3, 1.0], "when": {}},
}


def objective(metric, maximize, reference, ideal):
    return {"metric": metric, "maximize": maximize, "reference": reference, "ideal": ideal}


TWO = [objective("retrieval/mean_r1", True, 0.0, 0.5), objective("geometry/gap", False, 2.0, 0.0)]


def scores(recall, gap):
    return {"retrieval/mean_r1": recall, "geometry/gap": gap, "temperature/tau": 0.05, "uniformity/w2": recall - 1}


def trial(recall, gap, tau=0.05, fraction=0.5, **more):
    """A complete trial of one epoch; ``more`` are fields of ``made``'s trials."""
    params = {"temperature.tau_start": tau, "temperature.schedule_fraction": fraction}
    return {"reports": [scores(recall, gap)], "params": params, **more}


def made(folder, trials, *, objectives=TWO, constraints=(), seeds=1, params=PARAMS, **header):
    """Writes a ledger and gives its record.

    Args:
        folder: The sweep's folder.
        trials: In the order of their numbers, each a dict: ``params``, ``reports`` (metrics, epoch by epoch), and where
            they are not as usual ``state``, ``reason``, ``method``, ``candidate``, ``node``.
        objectives: The sweep's.
        constraints: Each with ``metric``, ``min``, ``max``.
        seeds: Trials of a candidate; those in a row belong together.
        params: The space's.
        header: Further fields of the sweep's event.
    """
    events, _ = read_events(example())
    head = copy.deepcopy(next(event for event in events if event["event"] == "sweep"))
    config = next(event for event in events if event["event"] == "trial")["config"]
    head["name"], head["objectives"] = folder.name, objectives
    head["config"]["constraints"], head["config"]["search"]["seeds"] = list(constraints), seeds
    head["space"]["params"], head["varied"], head["space"]["points_to_evaluate"] = params, list(params), []
    head.update(header)
    at = head["at"]
    lines = [head, {"event": "session", "at": at, "host": "here", "candidates": len(trials)}]
    for number, one in enumerate(trials):
        at += 1
        own, reports = one.get("params", {}), one.get("reports", [])
        drawn = {"candidate": one.get("candidate", number // seeds), "params": own, "method": one.get("method", "FLT")}
        own_config = {**config, "training.epochs": max(1, len(reports)), "seed": number % seeds, **own}
        lines.append({"event": "trial", "at": at, "trial": number, "config": own_config, **drawn})
        lines.append({"event": "start", "at": at + 0.1, "trial": number, "node": one.get("node", "here")})
        for epoch, values in enumerate(reports, 1):
            about = {"trial": number, "epoch": epoch, "step": 10 * epoch, "metrics": values}
            lines.append({"event": "report", "at": at + 0.1 + epoch / 1000, **about})
        state = one.get("state", "COMPLETE")
        if state not in ("RUNNING", "WAITING"):
            lines.append({"event": "end", "at": at + 0.5, "trial": number, "state": state, "reason": one.get("reason")})
    lines.append({"event": "done", "at": at + 1})
    folder.mkdir(parents=True, exist_ok=True)
    plain = ({key: value for key, value in line.items() if key != "crc"} for line in lines)
    (folder / FILE_NAME).write_bytes(b"".join(map(encode, plain)))
    return load(folder)

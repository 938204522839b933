"""A made-up sweep over the paper's methods, in which it is known what holds."""

import json
import zlib
from pathlib import Path

import numpy as np
from support import header, sweep_config

from gaptune.config import flatten
from gaptune.ledger import SweepRecord
from gaptune.space.methods import expand_method
from gaptune.space.parse import load_space
from gaptune.storage.bundled import find


def as_in_the_paper(params, seed):
    """Scores under which every claim holds; seeds shift all methods alike, and a little by themselves."""
    config = sweep_config().trial(expand_method(params))
    noise = np.random.default_rng([seed, zlib.crc32(json.dumps(params, sort_keys=True).encode())]).normal()
    common = 0.05 * seed
    method = params["method"]
    gap, recall, tau = 0.3, 0.5, 0.03
    if method == "FLT":
        tau = config.temperature.tau_start
        gap, recall = 0.01 / tau, 0.7 - 0.12 * abs(np.log(tau / 0.07))
    elif method != "Baseline":
        gap, recall = 0.2, 0.6
        if config.swap.kind != "none" and config.swap.probability == 1:
            gap, recall = 0.01, 0.1
    w2 = -1.3 + recall / 3
    scores = {"geometry/gap": gap, "uniformity/w2": w2, "temperature/tau": tau}
    for way in ("i2t", "t2i", "mean"):
        scores[f"retrieval/{way}_r1"] = recall + common
    scores |= {"zeroshot/top1": recall / 2 + common, "probe/top1": recall / 3 + common}
    found = {name: value + 1e-4 * noise for name, value in scores.items()}
    return found | {"train/swapped_fraction": config.swap.probability if config.swap.kind != "none" else 0.0}


def sweep_record(scores, *, seeds=3, leave_out=()):
    space = load_space(find(Path("search_spaces/paper.yaml"), "search_spaces"))
    sweep = sweep_config(search={"seeds": seeds, "sampler": "grid"})
    record = SweepRecord()
    record.apply(header(sweep) | {"varied": list(space.varied()), "space": space.to_dict()})
    number = 0
    for candidate, params in enumerate(space.combinations()):
        for seed in range(seeds):
            config = flatten(sweep.trial({**expand_method(params), "seed": seed}))
            about = {"trial": number, "at": 1.0}
            number += 1
            record.apply(
                {"event": "trial", "candidate": candidate, "params": params, "config": config}
                | about
                | {"method": params["method"]}
            )
            record.apply({"event": "report", "epoch": 2, "step": 2000, "metrics": scores(params, seed)} | about)
            ended = "FAIL" if params["method"] in leave_out else "COMPLETE"
            record.apply({"event": "end", "state": ended, "reason": "non-finite" if leave_out else None} | about)
    return record

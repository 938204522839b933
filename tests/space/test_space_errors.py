from __future__ import annotations

import re
from pathlib import Path

import pytest

from gaptune.errors import UserError
from gaptune.space.parse import load_space, parse_space

SPACE = """\
params:
  temperature.schedule: {choice: [constant, linear, step]}
  temperature.tau_start: {log_uniform: [0.01, 0.2]}
  temperature.tau_end:
    log_uniform: [0.01, 0.2]
    when: {temperature.schedule: [linear, step]}
  training.batch_size: {integer: [64, 256], step: 64}
  optimizer.lr: 1e-3
"""

BROKEN: dict[str, tuple[str, int, str]] = {
    "unknown parameter": (
        "params:\n  seed: {choice: [0, 1]}\n  temperature.tau_strat: {uniform: [0.1, 0.2]}\n",
        3,
        r"unknown parameter 'temperature.tau_strat' \(did you mean 'temperature.tau_start'\?\)",
    ),
    "bare leaf": (
        "params: {tau_end: 0.1}",
        1,
        r"unknown parameter 'tau_end' \(did you mean 'temperature.tau_end'\?\)",
    ),
    "group instead of a parameter": ("params:\n  temperature: {tau_end: 0.1}", 2, "unknown parameter 'temperature'"),
    "parameter of the model": (
        "params:\n  model.name: {choice: [a, b]}",
        2,
        r"model\.name is not a searchable parameter.*sweeps/",
    ),
    "width that no head has": (
        "params:\n  model.width: {integer: [0, 64]}",
        2,
        r"model\.width: expected at least 2, got 0",
    ),
    "head of another kind": (
        "params:\n  model.head: {choice: [linear, mpl]}",
        2,
        r"model\.head: expected 'linear', 'mlp' or 'residual'",
    ),
    "parameter of the data": (
        "params:\n  data.store: scenes",
        2,
        r"data\.store is not a searchable parameter.*sweeps/",
    ),
    "device": ("params:\n  device: {choice: [cpu, cuda]}", 2, r"device is not a searchable parameter.*sweeps/"),
    "unknown distribution": (
        "params:\n  optimizer.lr: {log_unifrom: [1e-4, 1e-2]}",
        2,
        r"unknown entry 'params\.optimizer\.lr\.log_unifrom' \(did you mean 'log_uniform'\?\)",
    ),
    "no distribution": (
        "params:\n  seed: {}",
        2,
        "needs exactly one of choice, uniform, log_uniform, and integer; found none",
    ),
    "only a condition": ("params:\n  swap.end: {when: {seed: 1}}", 2, "needs exactly one of choice"),
    "two distributions": (
        "params:\n  optimizer.lr:\n    uniform: [1e-4, 1e-2]\n    choice: [1e-3]",
        2,
        "needs exactly one of .*; found choice and uniform",
    ),
    "low above high": (
        "params:\n  optimizer.lr:\n    uniform: [1e-2, 1e-4]",
        3,
        r"low \(0\.01\) must be less than high \(0\.0001\)",
    ),
    "low equals high": ("params:\n  seed: {integer: [3, 3]}", 2, r"low \(3\) must be less than high \(3\)"),
    "log of zero": ("params:\n  temperature.lr_multiplier: {log_uniform: [0, 1]}", 2, "low above 0"),
    "log of a negative": ("params:\n  optimizer.lr: {log_uniform: [-1, 1]}", 2, "expected more than 0, got -1"),
    "log of integer zero": ("params:\n  seed: {integer: [0, 9], log: true}", 2, "low above 0"),
    "log with step": ("params:\n  seed: {integer: [1, 9], log: true, step: 2}", 2, "step 1, got low 1 and step 2"),
    "step of zero": ("params:\n  seed: {integer: [0, 9], step: 0}", 2, r"params\.seed\.step: expected at least 1"),
    "step that misses the end": (
        "params:\n  seed: {integer: [0, 9], step: 2}",
        2,
        r"high \(9\) must be low \(0\) plus a multiple of step \(2\)",
    ),
    "step of real numbers": (
        "params:\n  optimizer.lr: {uniform: [0.1, 0.2], step: 0.1}",
        2,
        "step: .*integer",
    ),
    "step beside uniform": (
        "params:\n  swap.end: {uniform: [0.1, 0.2], step: 1}",
        2,
        "step and log are allowed only with integer",
    ),
    "log beside choice": (
        "params:\n  swap.end: {choice: [0.1, 0.2], log: true}",
        2,
        "step and log are allowed only with integer",
    ),
    "bounds in words": ("params:\n  optimizer.lr: {uniform: [low, high]}", 2, "expected a number, got 'low'"),
    "bounds in quotes": ('params:\n  optimizer.lr: {uniform: ["0.1", "0.2"]}', 2, "expected a number, got '0.1'"),
    "one bound": ("params:\n  optimizer.lr: {uniform: [0.1]}", 2, "uniform: expected 2 or more entries, got 1"),
    "three bounds": (
        "params:\n  optimizer.lr: {uniform: [0.1, 0.2, 0.3]}",
        2,
        "uniform: expected 2 or fewer entries, got 3",
    ),
    "bounds no list": ("params:\n  optimizer.lr: {uniform: 0.1}", 2, "uniform: expected a list, got 0.1"),
    "bound null": ("params:\n  temperature.tau_min: {uniform: [null, 0.1]}", 2, "does not fit this parameter"),
    "bound infinite": ("params:\n  optimizer.weight_decay: {uniform: [0, .inf]}", 2, "finite number"),
    "bound not a number": ("params:\n  optimizer.weight_decay: {uniform: [.nan, 1]}", 2, "finite number"),
    "probability above one": (
        "params:\n  swap.probability: {uniform: [0, 1.5]}",
        2,
        "expected at most 1, got 1.5",
    ),
    "too many values": (
        f"params:\n  seed: {{choice: [{', '.join(map(str, range(1001)))}]}}",
        2,
        "too many choices: 1,001 .at most 1,000",
    ),
    "too many points": (
        "params:\n  seed: {choice: [0, 1]}\npoints_to_evaluate:\n" + "  - {seed: 1}\n" * 10_001,
        3,
        r"too many points: 10,001 \(at most 10,000\)",
    ),
    "number past all bounds": (f"params:\n  training.epochs: {{integer: [1{'0' * 399}, 2]}}", 2, "is too large"),
    "epochs past all bounds": (
        "params:\n  training.epochs: {integer: [1, 1000000]}",
        2,
        "expected at most 100,000, got",
    ),
    "tau that float32 cannot hold": (
        "params:\n  temperature.tau_start: 1e-20",
        2,
        r"expected at least 1e-06, got 1e-20",
    ),
    "a long word in place of a number": (
        f"params:\n  seed: {'x' * 900}",
        2,
        "expected an integer, got 'xxxxx[x]{60,80}…$",
    ),
    "tau of zero": ("params:\n  temperature.tau_start: {uniform: [0, 1]}", 2, "expected at least 1e-06, got 0"),
    "batch of one": (
        "params:\n  training.batch_size: {integer: [1, 9]}",
        2,
        "expected at least 2, got 1",
    ),
    "string for a number": ("params:\n  optimizer.lr: fast", 2, r"optimizer\.lr: expected a number, got 'fast'"),
    "truth for a number": ("params:\n  optimizer.lr: {choice: [0.1, true]}", 2, "expected a number, got true"),
    "real for an integer": (
        "params:\n  training.batch_size: {choice: [64, 96.5]}",
        2,
        "expected an integer, got 96.5",
    ),
    "number for a truth": ("params:\n  swap.renormalize: {choice: [0, 1]}", 2, "expected true or false, got 0"),
    "integer for a real parameter": ("params:\n  swap.end: {integer: [0, 1]}", 2, r"use uniform or log_uniform"),
    "uniform for an integer parameter": ("params:\n  training.epochs: {uniform: [1, 9]}", 2, r"use integer"),
    "uniform for a choice": (
        "params:\n  swap.kind: {uniform: [0, 1]}",
        2,
        "expected 'none', 'hard' or 'soft'",
    ),
    "uniform for a truth": ("params:\n  augment.flip: {uniform: [false, true]}", 2, "use choice"),
    "unknown choice": ("params:\n  swap.kind: {choice: [none, hrad]}", 2, r"'hrad' \(did you mean 'hard'\?\)"),
    "empty choice": ("params:\n  swap.kind: {choice: []}", 2, "choice: expected 1 or more entries, got 0"),
    "choice no list": ("params:\n  swap.kind: {choice: hard}", 2, "choice: expected a list, got 'hard'"),
    "choice of lists": (
        "params:\n  swap.kind: {choice: [[none], [hard]]}",
        2,
        r"swap\.kind: expected 'none'",
    ),
    "same choice twice": ("params:\n  optimizer.lr: {choice: [0.001, 1e-3]}", 2, "duplicate value in choice"),
    "unknown entry": (
        "params:\n  seed: {choice: [0, 1], wen: {a: 1}}",
        2,
        r"'params\.seed\.wen' \(did you mean 'when'\?\)",
    ),
    "condition on an unknown parameter": (
        "params:\n  seed: {choice: [0, 1]}\n  swap.end: {uniform: [0.1, 1], when: {sede: 1}}",
        3,
        r"swap\.end depends on 'sede', which is not a parameter of this space \(did you mean 'seed'\?\)",
    ),
    "condition on a parameter elsewhere": (
        "params:\n  seed: {choice: [0, 1]}\n  swap.end: {uniform: [0.1, 1], when: {swap.kind: hard}}",
        3,
        r"depends on 'swap\.kind', which is not a parameter of this space",
    ),
    "condition on itself": ("params:\n  seed: {choice: [0, 1], when: {seed: 1}}", 2, "seed depends on itself"),
    "conditions in a circle": (
        "params:\n  seed: {choice: [0, 1], when: {swap.kind: hard}}\n"
        "  swap.kind: {choice: [none, hard], when: {seed: 1}}",
        1,
        r"circular conditions: seed -> swap\.kind -> seed",
    ),
    "condition on a continuous parameter": (
        "params:\n  swap.end: {uniform: [0.1, 1]}\n  seed: {choice: [0, 1], when: {swap.end: 0.5}}",
        3,
        r"depends on swap\.end, which is continuous",
    ),
    "condition that never holds": (
        "params:\n  swap.kind: {choice: [none, hard]}\n  swap.end:\n    uniform: [0.1, 1]\n    when:\n"
        "      swap.kind: [hard, soft]",
        6,
        r"depends on swap\.kind = 'soft', which is not in \{'choice': \['none', 'hard'\]\}",
    ),
    "condition off the steps": (
        "params:\n  training.epochs: {integer: [2, 8], step: 2}\n  seed: {choice: [0, 1], when: {training.epochs: 3}}",
        3,
        r"training\.epochs = 3, which is not in",
    ),
    "condition on no value": (
        "params:\n  swap.kind: {choice: [none, hard]}\n  seed: {choice: [0, 1], when: {swap.kind: []}}",
        3,
        r"the condition on swap\.kind has no values",
    ),
    "condition no mapping": (
        "params:\n  seed: {choice: [0, 1], when: hard}",
        2,
        "when: expected a mapping",
    ),
    "unknown method": ("params:\n  method: {choice: [FLT, SLTR]}", 2, r"'SLTR' \(did you mean 'SLRT'\?\)"),
    "method no name": ("params:\n  method: {choice: [[FLT], [SLRT]]}", 2, "method: expected 'Baseline'"),
    "empty space": ("# nothing\nparams: {}", 2, "every parameter has a fixed value"),
    "nothing varies": ("params:\n  seed: 1", 1, "every parameter has a fixed value"),
    "parameters missing": ("grid: true", 1, "'params' is missing"),
    "parameters a list": ("name: a\nparams: [seed]", 2, "params: expected a mapping .*, got a list"),
    "parameters empty": ("name: a\nparams:\n", 2, "params: expected a mapping .*, got null"),
    "parameter a number": ("params:\n  7: {choice: [1, 2]}", 2, "expected text, got 7"),
    "unknown top-level key": ("parameter: {seed: 1}", 1, "'params' is missing"),
    "unknown key beside": (
        "params: {seed: {choice: [0, 1]}}\npoint: []",
        2,
        r"'point' \(did you mean 'points_to_evaluate'\?\)",
    ),
    "grid no truth": ("params: {seed: {choice: [0, 1]}}\ngrid: 1", 2, "grid: expected true or false, got 1"),
    "name no string": ("params: {seed: {choice: [0, 1]}}\nname: 7", 2, "name: expected text, got 7"),
    "continuous grid": (
        "params:\n  seed: {choice: [0, 1]}\n  swap.end: {uniform: [0.1, 1]}\ngrid: true",
        4,
        r"swap\.end is continuous",
    ),
    "huge grid": (
        "params:\n  seed: {integer: [0, 2147483647]}\ngrid: true",
        3,
        "more than 10,000 combinations",
    ),
    "grid with points": (
        "params: {seed: {choice: [0, 1]}}\ngrid: true\npoints_to_evaluate: [{seed: 1}]",
        3,
        "remove points_to_evaluate",
    ),
    "impossible combination": (
        "params:\n  temperature.tau_init: {choice: [0.05, 0.1]}\n"
        "  temperature.tau_min: {choice: [0.01, 0.07]}\ngrid: true",
        4,
        r"tau_init 0\.05 is outside",
    ),
    "point no mapping": (
        "params: {seed: {choice: [0, 1]}}\npoints_to_evaluate:\n  - FLT",
        3,
        "points_to_evaluate.0: expected a mapping",
    ),
    "points no list": (
        "params: {seed: {choice: [0, 1]}}\npoints_to_evaluate: {seed: 1}",
        2,
        "points_to_evaluate: expected a list, got a mapping",
    ),
    "point of an unknown method": (
        SPACE + "points_to_evaluate:\n  - method: FLT\n  - method: TS S4\n",
        11,
        r"'TS S4' \(did you mean 'TS S",
    ),
    "point with an unknown parameter": (
        SPACE + "points_to_evaluate:\n  - temperature.schedule: constant\n    temperature.tau: 0.1\n",
        11,
        "unknown parameter 'temperature.tau'",
    ),
    "point of the model": (
        SPACE + "points_to_evaluate:\n  - {model.name: RN50}\n",
        10,
        r"model\.name is not a search",
    ),
    "point outside the range": (
        SPACE + "points_to_evaluate:\n  - temperature.schedule: constant\n    temperature.tau_start: 0.5\n",
        11,
        r"temperature\.tau_start: 0\.5 is not in \{'log_uniform': \[0\.01, 0\.2\]\}",
    ),
    "point off the steps": (
        SPACE + "points_to_evaluate:\n  - {temperature.schedule: constant, training.batch_size: 96}\n",
        10,
        r"training\.batch_size: 96 is not in",
    ),
    "point against a fixed value": (
        SPACE + "points_to_evaluate:\n  - {temperature.schedule: constant, optimizer.lr: 0.01}\n",
        10,
        r"optimizer\.lr: 0\.01 is not in \{'choice': \[0\.001\]\}",
    ),
    "point with a method outside the space": (
        SPACE + "points_to_evaluate:\n  - method: SLRT\n",
        10,
        r"temperature\.schedule: 'learned' is not in",
    ),
    "point whose default is outside": (
        SPACE + "points_to_evaluate:\n  - {temperature.tau_start: 0.1}\n",
        10,
        r"temperature\.schedule: its default 'learned' is not in",
    ),
    "point about a parameter that the space leaves alone": (
        SPACE + "points_to_evaluate:\n  - {temperature.schedule: constant, swap.kind: hard}\n",
        10,
        r"swap\.kind = 'hard' has no effect: with this point, the space sets it to 'none'",
    ),
    "point about an inactive parameter": (
        SPACE + "points_to_evaluate:\n  - {temperature.schedule: constant, temperature.tau_end: 0.1}\n",
        10,
        r"temperature\.tau_end = 0\.1 has no effect: with this point, the space sets it to 0\.04",
    ),
    "point without its method": (
        "params: {method: {choice: [FLT, HS]}, seed: {choice: [0, 1]}}\npoints_to_evaluate:\n  - seed: 1",
        3,
        "method: its default None is not in",
    ),
    "point with a method of the wrong kind": (
        "params: {method: {choice: [FLT, HS]}}\npoints_to_evaluate:\n  - method: [FLT]",
        3,
        "method: expected 'Baseline'",
    ),
    "impossible point": (
        "params:\n  temperature.tau_init: {log_uniform: [0.001, 0.1]}\n"
        "points_to_evaluate:\n  - temperature.tau_init: 0.002\n",
        4,
        r"temperature: tau_init 0\.002 is outside",
    ),
}


@pytest.mark.parametrize(("text", "line", "gist"), BROKEN.values(), ids=BROKEN)
def test_invalid_space_error_is_one_line_with_file_and_line(tmp_path: Path, text: str, line: int, gist: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_space(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: "), message
    assert re.search(gist, message), message
    assert "\n" not in message


def test_plain_form_without_params_is_refused() -> None:
    with pytest.raises(UserError, match="'params' is missing"):
        parse_space({"name": "a"})

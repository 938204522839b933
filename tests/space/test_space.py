from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaptune.config import TrialConfig, with_params
from gaptune.errors import UserError
from gaptune.space.methods import METHODS, expand_method, name_method
from gaptune.space.model import Choice, Integer, Real, Space
from gaptune.space.parse import base_config, load_space, parse_space

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
METHODS_YAML = next(path for path in SHIPPED if path.stem == "methods")


class RandomSuggester:
    """Draws random values, often the ends of an interval, and records the names that it was asked for."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.asked: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        inner = math.exp(self.random.uniform(math.log(low), math.log(high))) if log else self.random.uniform(low, high)
        self.asked[name] = self.random.choice([low, high, min(max(inner, low), high)])
        return self.asked[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.asked[name] = self.random.randrange(low, high + 1, step)
        return self.asked[name]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked[name] = self.random.choice(choices)
        return self.asked[name]


def write(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def space_of(folder: Path, text: str) -> Space:
    return load_space(write(folder, text))


SCHEDULES = """\
name: small
params:
  temperature.tau_end: {log_uniform: [0.01, 0.2], when: {temperature.schedule: [linear, step]}}
  temperature.schedule: {choice: [constant, linear, step]}
  temperature.tau_start: {log_uniform: [0.01, 0.2]}
  temperature.steps: {integer: [2, 8], log: true, when: {temperature.schedule: step}}
  training.batch_size: {integer: [64, 256], step: 64}
  optimizer.lr: 1e-3
"""

GRID = """\
params:
  swap.kind: {choice: [none, hard, soft]}
  swap.renormalize: {choice: [false, true], when: {swap.kind: [hard, soft]}}
  temperature.steps: {integer: [2, 6], step: 2}
  optimizer.lr: 0.002
grid: true
"""


def test_every_kind_of_parameter_is_read(tmp_path: Path) -> None:
    space = space_of(tmp_path, SCHEDULES)
    assert space.name == "small"
    assert space.path == tmp_path / "space.yaml"
    by_name = {parameter.name: parameter for parameter in space.parameters}
    assert by_name["temperature.schedule"].distribution == Choice(("constant", "linear", "step"))
    assert by_name["temperature.tau_end"].distribution == Real(0.01, 0.2, log=True)
    assert by_name["temperature.tau_end"].when == {"temperature.schedule": ("linear", "step")}
    assert by_name["temperature.steps"].distribution == Integer(2, 8, step=1, log=True)
    assert by_name["training.batch_size"].distribution == Integer(64, 256, step=64, log=False)
    assert by_name["optimizer.lr"].distribution == Choice((0.001,))


def test_name_defaults_to_the_file_stem(tmp_path: Path) -> None:
    assert space_of(tmp_path, "params: {seed: {choice: [0, 1]}}").name == "space"


def test_parameter_comes_after_those_in_its_condition(tmp_path: Path) -> None:
    names = [parameter.name for parameter in space_of(tmp_path, SCHEDULES).parameters]
    assert names == [
        "temperature.schedule",
        "temperature.tau_end",
        "temperature.tau_start",
        "temperature.steps",
        "training.batch_size",
        "optimizer.lr",
    ]


def test_fixed_values_are_returned_without_asking_the_suggester(tmp_path: Path) -> None:
    space, suggester = space_of(tmp_path, SCHEDULES), RandomSuggester(0)
    params = space.suggest(suggester)
    assert params["optimizer.lr"] == 0.001
    assert "optimizer.lr" not in suggester.asked
    assert "optimizer.lr" not in space.varied()
    assert space.varied_params(params) == suggester.asked


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), path=st.sampled_from(SHIPPED))
def test_every_candidate_of_a_bundled_space_is_a_valid_trial(seed: int, path: Path) -> None:
    space = load_space(path)
    params = space.suggest(RandomSuggester(seed))
    config = with_params(base_config(space), expand_method(params))
    assert name_method(config)
    for parameter in space.parameters:
        holds = all(params.get(name, object()) in values for name, values in parameter.when.items())
        assert (parameter.name in params) == holds
        assert not holds or params[parameter.name] in parameter.distribution


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_bundled_space_describes_its_purpose_and_command(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("params:")[0]
    assert "?" in head
    assert f"gaptune sweep search_spaces/{path.name}" in head


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_bundled_points_equal_what_the_space_suggests_for_them(path: Path) -> None:
    space = load_space(path)
    assert space.points_to_evaluate or space.grid
    for point in space.points_to_evaluate:
        assert space.suggest(optuna.trial.FixedTrial(space.varied_params(point))) == point


def test_methods_space_evaluates_every_method_of_the_paper_first() -> None:
    points = load_space(METHODS_YAML).points_to_evaluate
    wanted = [with_params(TrialConfig(), params) for params in METHODS.values()]
    assert [with_params(TrialConfig(), point) for point in points] == wanted


def test_paper_space_has_every_method_with_the_settings_of_the_paper() -> None:
    (path,) = (path for path in SHIPPED if path.stem == "paper")
    combinations = load_space(path).combinations()
    assert {point["method"] for point in combinations} == set(METHODS)
    taus = [point["temperature.tau_start"] for point in combinations if point["method"] == "FLT"]
    assert sorted(taus) == [0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.4]
    swaps = [(point["method"], point["swap.probability"]) for point in combinations if point["method"] in ("HS", "SS")]
    assert swaps == [(kind, p) for kind in ("HS", "SS") for p in (1e-3, 5e-2, 1.0)]
    assert len(combinations) == len(METHODS) - 3 + len(taus) + len(swaps)


# points


def test_point_gets_missing_values_from_its_method_then_the_defaults(tmp_path: Path) -> None:
    text = (
        SCHEDULES
        + "points_to_evaluate:\n  - method: TS S3\n  - {temperature.schedule: constant, training.batch_size: 64}\n"
    )
    scheduled, constant = space_of(tmp_path, text).points_to_evaluate
    assert scheduled == {
        "temperature.schedule": "linear",
        "temperature.tau_end": 0.05,
        "temperature.tau_start": 0.01,
        "training.batch_size": 128,
        "optimizer.lr": 0.001,
    }
    assert constant == {
        "temperature.schedule": "constant",
        "temperature.tau_start": 0.04,
        "training.batch_size": 64,
        "optimizer.lr": 0.001,
    }


def test_point_in_a_space_with_methods_keeps_the_method_name(tmp_path: Path) -> None:
    space = space_of(
        tmp_path,
        """\
params:
  method: {choice: [FLT, SLRT]}
  temperature.tau_start: {log_uniform: [0.01, 0.2], when: {method: FLT}}
points_to_evaluate:
  - method: FLT
  - method: SLRT
  - {method: FLT, temperature.tau_start: 0.1}
""",
    )
    assert space.points_to_evaluate == (
        {"method": "FLT", "temperature.tau_start": 0.04},
        {"method": "SLRT"},
        {"method": "FLT", "temperature.tau_start": 0.1},
    )


def test_point_may_repeat_the_default_of_an_inactive_parameter(tmp_path: Path) -> None:
    text = "params: {swap.kind: {choice: [none, hard]}}\npoints_to_evaluate: [{swap.kind: hard, optimizer.lr: 1e-3}]"
    assert space_of(tmp_path, text).points_to_evaluate == ({"swap.kind": "hard"},)


def test_point_gets_fixed_values_from_the_space(tmp_path: Path) -> None:
    text = "params: {swap.kind: {choice: [none, hard]}, optimizer.lr: 2e-3}\npoints_to_evaluate: [{swap.kind: hard}]"
    assert space_of(tmp_path, text).points_to_evaluate == ({"swap.kind": "hard", "optimizer.lr": 0.002},)


def test_point_in_a_space_of_heads_gets_the_defaults_of_heads(tmp_path: Path) -> None:
    text = (
        "params: {model.head: {choice: [linear, mlp]}, model.dropout: {uniform: [0.0, 0.5]}}\npoints_to_evaluate: [{}]"
    )
    assert space_of(tmp_path, text).points_to_evaluate == ({"model.head": "linear", "model.dropout": 0.2},)


# grids


def test_combinations_respect_the_conditions(tmp_path: Path) -> None:
    combinations = space_of(tmp_path, GRID).combinations()
    expected = []
    for kind, renormalize, steps in itertools.product(["none", "hard", "soft"], [False, True], [2, 4, 6]):
        params: dict[str, Any] = {"swap.kind": kind}
        if kind != "none":
            params["swap.renormalize"] = renormalize
        params |= {"temperature.steps": steps, "optimizer.lr": 0.002}
        if params not in expected:
            expected.append(params)
    assert combinations == expected
    assert len(combinations) == 15


def test_grid_sampler_with_a_continuous_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"space\.yaml: temperature\.tau_end is continuous"):
        space_of(tmp_path, SCHEDULES).combinations()


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    """Random spaces of discrete parameters, in the form of their file, with conditions on earlier parameters."""
    candidates = {
        "seed": list(range(5)),
        "swap.kind": ["none", "hard", "soft"],
        "swap.renormalize": [False, True],
        "temperature.parameterization": ["exp", "exp_scaled", "softplus"],
        "optimizer.clip_norm": [None, 0.5, 1.0],
        "training.batch_size": [64, 128, 192],
    }
    names = draw(st.lists(st.sampled_from(sorted(candidates)), min_size=1, unique=True))
    params: dict[str, Any] = {}
    for index, name in enumerate(names):
        fewest = 2 if index == 0 else 1  # at least one parameter must vary
        values = draw(st.lists(st.sampled_from(candidates[name]), min_size=fewest, unique=True))
        params[name] = {"choice": values}
        if name == "training.batch_size" and draw(st.booleans()):
            params[name] = {"integer": [64, 192], "step": 64}
        if index and draw(st.booleans()):
            other = draw(st.sampled_from(names[:index]))
            taken = params[other].get("choice", candidates[other])
            some = draw(st.lists(st.sampled_from(taken), min_size=1, unique=True))
            params[name]["when"] = {other: some}
    return {"name": draw(st.text("abc", min_size=1)), "params": params, "grid": draw(st.booleans())}


@settings(max_examples=60, deadline=None)
@given(data=spaces())
def test_combinations_contain_every_candidate_once(data: dict[str, Any]) -> None:
    space = parse_space(data)
    combinations = space.combinations()
    keys = [json.dumps(params, sort_keys=True) for params in combinations]
    assert len(set(keys)) == len(keys)
    suggested = {json.dumps(space.suggest(RandomSuggester(seed)), sort_keys=True) for seed in range(40)}
    assert suggested <= set(keys)
    for params in combinations:
        assert space.suggest(optuna.trial.FixedTrial(space.varied_params(params))) == params


@settings(max_examples=60, deadline=None)
@given(data=spaces())
def test_space_survives_a_json_round_trip(data: dict[str, Any]) -> None:
    space = parse_space(data)
    again = parse_space(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.to_dict() == space.to_dict()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_bundled_space_survives_a_round_trip(path: Path) -> None:
    space = load_space(path)
    again = parse_space(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.to_dict() == space.to_dict()


# equal and different spaces


def meaning(space: Space) -> str:
    """The content of a space without its name, as the ledger compares it."""
    return json.dumps({**space.to_dict(), "name": ""}, sort_keys=True)


POINTS = "points_to_evaluate:\n  - method: FLT\n  - method: TS S3\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: small\n", "name: other\n"),
        ("name: small\n", "# why\n"),
        ("temperature.tau_start: {log_uniform: [0.01, 0.2]}\n  ", ""),  # moved to the end below
        ("optimizer.lr: 1e-3", "optimizer.lr: {choice: [0.001]}"),
        ("schedule: step}", "schedule: [step]}"),
        ("[linear, step]}}", "[step, linear]}}"),
        ("method: FLT", "{temperature.schedule: constant, temperature.tau_start: 4e-2}"),
    ],
)
def test_files_with_the_same_meaning_give_equal_spaces(tmp_path: Path, old: str, new: str) -> None:
    text = SCHEDULES + POINTS
    other = text.replace(old, new)
    if not new:
        other = other.replace(
            "points_to_evaluate:", "  temperature.tau_start: {log_uniform: [0.01, 0.2]}\npoints_to_evaluate:"
        )
    assert other != text
    assert meaning(space_of(tmp_path, other)) == meaning(space_of(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[constant, linear, step]", "[constant, linear, cosine, step]"),
        (
            "[constant, linear, step]",
            "[linear, constant, step]",
        ),  # a sampler identifies choices by their order
        ("tau_start: {log_uniform", "tau_start: {uniform"),
        ("tau_start: {log_uniform: [0.01,", "tau_start: {log_uniform: [0.005,"),
        ("[linear, step]}}", "linear}}"),
        (", when: {temperature.schedule: step}", ""),
        ("step: 64", "step: 32"),
        ("log: true, ", ""),
        ("1e-3", "2e-3"),
        ("  optimizer.lr: 1e-3\n", ""),
        ("  - method: FLT\n  - method: TS S3\n", "  - method: TS S3\n  - method: FLT\n"),
        ("  - method: FLT\n", ""),
    ],
)
def test_files_with_different_meaning_give_different_spaces(tmp_path: Path, old: str, new: str) -> None:
    text = SCHEDULES + POINTS
    other = text.replace(old, new)
    assert other != text
    assert meaning(space_of(tmp_path, other)) != meaning(space_of(tmp_path, text))


def test_grid_is_not_equal_to_a_search_over_the_same_values(tmp_path: Path) -> None:
    free = space_of(tmp_path, GRID.replace("true\n", "false\n"))
    assert meaning(free) != meaning(space_of(tmp_path, GRID))

"""Names of 0.1.0 are refused in one line that gives the new name; nothing else is taken for one of them."""

import re
from pathlib import Path

import pytest

from gaptune.config import (
    EarlyStoppingConfig,
    EvaluationConfig,
    SearchConfig,
    SweepConfig,
    TemperatureConfig,
    TrialConfig,
    load_sweep_config,
    parameter_fields,
    with_params,
)
from gaptune.errors import UserError, did_you_mean
from gaptune.metrics.table import METRICS, SYSTEM, TASK_METRICS
from gaptune.space.parse import ParameterEntry, SpaceFile, load_space
from gaptune.text import renamed

OBJECTIVES = """\
objectives:
  - {metric: geometry/gap, reference: 1.0, ideal: 0.0}
  - {metric: retrieval/mean_r1, reference: 0.0, ideal: 1.0}
"""
SPACE = "params:\n  temperature.schedule: {choice: [linear, step]}\n  swap.end: {uniform: [0.5, 1.0]}\n"
EVALUATE = "evaluate:\n  - {name: cifar10, data: 'cifar10:/x', tasks: [zeroshot]}\n"


def sweeps():
    """Of each old name in a sweep config: the file, the line of the name, and the new one."""
    for group, keys in renamed.CONFIG_KEYS.items():
        for old, new in keys.items():
            yield f"{group}.{old}", OBJECTIVES + f"{group}:\n  {old}: 1\n", 5, new
    yield "schedule", OBJECTIVES + "temperature:\n  schedule: learnt\n", 5, "learned"
    yield "method", OBJECTIVES + "early_stopping: {method: halving}\n", 4, "asha"
    yield "an old key among unknown ones", OBJECTIVES + "search:\n  foo: 1\n  trials: 3\n", 6, "candidates"
    for old, new in renamed.TASKS.items():
        yield f"task {old}", OBJECTIVES + EVALUATE.replace("zeroshot", old), 5, new
    for old, new in renamed.METRICS.items():
        bound = "{metric: " + old + ", min: 0}"
        yield f"constraint {old}", OBJECTIVES + f"constraints:\n  - {bound}\n", 5, new
        yield f"objective {old}", OBJECTIVES.replace("geometry/gap", old), 2, new
    for old, new in renamed.TASK_METRICS.items():
        bound = "{metric: cifar10/" + old + ", min: 0}"
        yield f"constraint {old}", OBJECTIVES + f"constraints:\n  - {bound}\n" + EVALUATE, 5, f"cifar10/{new}"


def spaces():
    """The same of a search space."""
    yield "knobs", SPACE.replace("params", "knobs"), 1, "params"
    yield "points", SPACE + "points: []\n", 4, "points_to_evaluate"
    for old, new in renamed.PARAMETERS.items():
        yield f"parameter {old}", SPACE + f"  {old}: 0.5\n", 4, new
        point = "points_to_evaluate:\n  - temperature.schedule: linear\n"
        yield f"point with {old}", SPACE + f"{point}    {old}: 0.5\n", 6, new
        condition = f"  seed:\n    choice: [0, 1]\n    when:\n      {old}: 0.5\n"
        yield f"condition on {old}", SPACE + f"  {new}: {{choice: [0.5, 1.0]}}\n{condition}", 8, new
    learned = "params:\n  temperature.schedule:\n    choice: [learned, linear]\n"
    yield "choice of learnt", learned.replace("learned", "learnt"), 3, "learned"
    yield "fixed to learnt", SPACE.replace("{choice: [linear, step]}", "learnt"), 2, "learned"
    yield "point of learnt", learned + "points_to_evaluate: [{temperature.schedule: learnt}]\n", 4, "learned"
    yield (
        "condition of learnt",
        learned + "  seed: {choice: [0, 1], when: {temperature.schedule: learnt}}\n",
        4,
        "learned",
    )


@pytest.mark.parametrize(
    ("load", "text", "line", "new"),
    [
        pytest.param(load, text, line, new, id=name)
        for load, cases in ((load_sweep_config, sweeps()), (load_space, spaces()))
        for name, text, line, new in cases
    ],
)
def test_old_name_in_a_file_is_refused_with_its_line_and_the_new_name(tmp_path, load, text, line, new):
    path: Path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: "), message
    assert f"(renamed to {new!r})" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("params", "new"),
    [({"temperature.share": 0.5}, "temperature.schedule_fraction"), ({"temperature.schedule": "learnt"}, "learned")],
)
def test_old_name_in_set_option_is_refused_with_the_new_name(params, new):
    with pytest.raises(UserError, match=re.escape(f"(renamed to {new!r})")):
        with_params(TrialConfig(), params)


def names_of_today():
    """Everything that can be written in a YAML file: keys, values, parameters, metrics."""
    schemas = (SpaceFile, ParameterEntry, SweepConfig, SearchConfig, EarlyStoppingConfig, EvaluationConfig)
    keys = {name for schema in (*schemas, TemperatureConfig) for name in schema.model_fields}
    metrics = {*METRICS, *SYSTEM, *(f"cifar10/{name}" for name in TASK_METRICS)}
    return sorted(keys | metrics | set(parameter_fields()) | {"learned", "asha", "mmvp"})


@pytest.mark.parametrize("name", names_of_today())
def test_current_name_is_not_an_old_name(name):
    assert renamed.current_name(name) is None


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("trials", ["number", "name"]),  # old in `search` alone
        ("first", ["sampler", "seed"]),
        ("rule", ["tau_init", "tau_end"]),
        ("pairs", ["scenes", "coco"]),
        ("zeroshot_top1", ["zeroshot/top5"]),
    ],
)
def test_old_name_gives_no_hint_if_the_new_name_is_unknown(name, known):
    assert "renamed to" not in did_you_mean(name, known)


def test_user_chosen_value_may_be_an_old_name(tmp_path):
    path = tmp_path / "points.yaml"
    text = EVALUATE.replace("name: cifar10", "name: pairs").replace("'cifar10:/x'", "knobs/share")
    path.write_text(OBJECTIVES + text + "data: {store: trials}\n")
    assert load_sweep_config(path).evaluate[0].name == "pairs"
    path.write_text("name: recorded\n" + SPACE)
    assert load_space(path).name == "recorded"

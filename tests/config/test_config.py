from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaptune.config import (
    HEAD_DEFAULTS,
    MODEL_PARAMETERS,
    NOT_PARAMETERS,
    ModelConfig,
    SweepConfig,
    TrialConfig,
    flatten,
    load_sweep_config,
    parameter_fields,
    unflatten,
    with_params,
)
from gaptune.errors import UserError

OBJECTIVES = """\
objectives:
  - {metric: geometry/gap, reference: 1.0, ideal: 0.0}
  - {metric: retrieval/mean_r1, reference: 0.0, ideal: 1.0}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_sweep_config_needs_only_objectives(tmp_path: Path) -> None:
    sweep = load_sweep_config(write(tmp_path, OBJECTIVES))
    assert sweep.trial({}) == TrialConfig()
    assert [objective.maximize for objective in sweep.objectives] == [False, True]


def test_params_override_the_sweep_config_and_it_overrides_the_defaults(tmp_path: Path) -> None:
    text = OBJECTIVES + "optimizer: {lr: 2e-3, warmup: 0.2}\nmodel: {name: RN50}\nseed: 7\n"
    trial = load_sweep_config(write(tmp_path, text)).trial({"optimizer.lr": 5e-3, "swap.kind": "soft"})
    assert (trial.optimizer.lr, trial.optimizer.warmup, trial.optimizer.beta1) == (5e-3, 0.2, 0.9)
    assert (trial.model.name, trial.seed, trial.swap.kind) == ("RN50", 7, "soft")


def test_direction_defaults_to_that_of_the_metric(tmp_path: Path) -> None:
    own = "{metric: geometry/alignment, reference: 4, ideal: 0}"
    text = f"objectives: [{{metric: geometry/gap, direction: max, reference: 0, ideal: 1}}, {own}]"
    explicit, default = load_sweep_config(write(tmp_path, text)).objectives
    assert explicit.maximize
    assert not default.maximize


BROKEN: dict[str, tuple[str, int, str]] = {
    "no objectives": ("seed: 1\n", 1, "'objectives' is missing"),
    "empty objectives": ("seed: 1\nobjectives: []\n", 2, "objectives: expected 2 or more entries, got [01]$"),
    "one objective": (
        "objectives:\n  - {metric: geometry/gap, reference: 1, ideal: 0}\n",
        1,
        "objectives: expected 2 or more entries, got [01]$",
    ),
    "five objectives": (
        "objectives:\n" + "  - {metric: geometry/gap, reference: 1, ideal: 0}\n" * 5,
        1,
        "objectives: expected 4 or fewer entries, got 5$",
    ),
    "objectives no list": ("objectives: geometry/gap\n", 1, "objectives: expected a list, got 'geometry/gap'$"),
    "objective no mapping": (
        "objectives:\n  - geometry/gap\n",
        2,
        r"objectives\.0: expected a mapping \(key: value\), got",
    ),
    "objective without a reference": (
        "objectives:\n  - {metric: geometry/gap, ideal: 0}\n",
        2,
        r"'objectives\.0\.reference' is missing",
    ),
    "objective with an unknown metric": (
        "objectives:\n  - metric: geometry/gapp\n    reference: 1\n    ideal: 0\n",
        2,
        r"unknown metric 'geometry/gapp' \(did you mean 'geometry/gap'\?\)",
    ),
    "objective without a default direction": (
        "objectives:\n  - {metric: temperature/tau, reference: 1, ideal: 0}\n",
        2,
        "has no default direction: set direction to max or min",
    ),
    "ideal on the wrong side of a minimum": (
        "objectives:\n  - {metric: geometry/gap, reference: 0, ideal: 1}\n",
        2,
        "ideal 1 must be below reference 0",
    ),
    "ideal on the wrong side of a maximum": (
        OBJECTIVES + "  - {metric: zeroshot/top1, reference: 1, ideal: 0.5}\n",
        4,
        "ideal 0.5 must be above reference 1",
    ),
    "ideal equal to the reference": (
        "objectives:\n  - {metric: geometry/gap, reference: 1, ideal: 1}\n",
        2,
        "ideal 1 must be below reference 1",
    ),
    "infinite reference": (
        "objectives:\n  - {metric: geometry/gap, reference: .inf, ideal: 0}\n",
        2,
        "finite number, got inf",
    ),
    "objective twice": (
        "seed: 1\n" + OBJECTIVES + "  - {metric: geometry/gap, reference: 2, ideal: 0}\n",
        2,
        "objectives: duplicate metric",
    ),
    "unknown group": (OBJECTIVES + "optimiser: {lr: 1}\n", 4, r"'optimiser' \(did you mean 'optimizer'\?\)"),
    "unknown parameter": (
        OBJECTIVES + "temperature:\n  tau_init: 0.1\n  tau_strat: 0.1\n",
        6,
        r"'temperature\.tau_strat' \(did you mean 'tau_start'\?\)",
    ),
    "unknown entry of an objective": (
        "objectives:\n  - {metric: geometry/gap, refrence: 1, ideal: 0, reference: 1}\n",
        2,
        r"'objectives\.0\.refrence' \(did you mean 'reference'\?\)",
    ),
    "odd key": (OBJECTIVES + "lr[0]: 1\n", 4, r"unknown entry 'lr\[0\]'"),
    "number as a key": (OBJECTIVES + "7: 1\n", 4, "7: expected text as a key, got 7"),
    "parameter by its dotted path": (OBJECTIVES + "optimizer.lr: 1e-3\n", 4, "unknown entry 'optimizer.lr'"),
    "words for a number": (
        OBJECTIVES + "search: {candidates: many}\n",
        4,
        "search.candidates: expected an integer, got 'many'",
    ),
    "quoted number": (
        OBJECTIVES + 'search: {candidates: "16"}\n',
        4,
        "search.candidates: expected an integer, got '16'",
    ),
    "real for an integer": (OBJECTIVES + "training: {epochs: 2.0}\n", 4, "expected an integer, got 2.0"),
    "truth for a number": (OBJECTIVES + "seed: true\n", 4, "seed: expected an integer, got true"),
    "number for a truth": (OBJECTIVES + "augment: {flip: 1}\n", 4, "augment.flip: expected true or false, got 1"),
    "list for a group": (OBJECTIVES + "training: [8, 128]\n", 4, "training: expected a mapping .*, got a list$"),
    "null for a group": (OBJECTIVES + "training:\n", 4, "training: expected a mapping .*, got null$"),
    "unknown sampler": (OBJECTIVES + "search:\n  sampler: tpee\n", 5, r"got 'tpee' \(did you mean 'tpe'\?\)"),
    "no trials": (
        OBJECTIVES + "search: {candidates: 0}\n",
        4,
        "search.candidates: expected at least 1, got 0",
    ),
    "negative seed": (OBJECTIVES + "seed: -1\n", 4, "seed: expected at least 0, got -1"),
    "probability above one": (
        OBJECTIVES + "swap: {probability: 1.5}\n",
        4,
        "expected at most 1, got 1.5",
    ),
    "tau of zero": (OBJECTIVES + "temperature: {tau_start: 0}\n", 4, "expected at least 1e-06, got 0"),
    "not a number": (OBJECTIVES + "optimizer: {weight_decay: .nan}\n", 4, "finite number, got nan"),
    "batch of one": (OBJECTIVES + "training: {batch_size: 1}\n", 4, "expected at least 2, got 1"),
    "tau_min above tau_max": (
        OBJECTIVES + "temperature: {tau_min: 0.2, tau_max: 0.1}\n",
        4,
        "temperature: tau_min 0.2 is above tau_max 0.1",
    ),
    "tau_init below tau_min": (
        OBJECTIVES + "temperature: {tau_init: 0.001}\n",
        4,
        r"tau_init 0\.001 is outside",
    ),
    "empty window": (
        OBJECTIVES + "swap: {start: 0.5, end: 0.5}\n",
        4,
        r"swap: start \(0\.5\) must be less than end \(0\.5\)",
    ),
    "an option of heads for another model": (
        OBJECTIVES + "model:\n  name: RN50\n  dropout: 0.1\n",
        6,
        "model.dropout: does not apply to the model RN50, which has no heads",
    ),
    "an option of towers for heads": (
        OBJECTIVES + "model:\n  name: heads\n  freeze: image\n",
        6,
        "model.freeze: does not apply to the model heads, which trains no towers",
    ),
    "the old name of heads": (
        OBJECTIVES + "model: {name: linear-heads}\n",
        4,
        r"model.name: unknown model 'linear-heads' \(renamed to 'heads'\)",
    ),
    "negative fraction of a GPU": (
        OBJECTIVES + "resources: {gpu: -0.5}\n",
        4,
        "resources.gpu: expected a number of at least 0, or auto, got -0.5",
    ),
    "more lanes than there can be": (
        OBJECTIVES + "resources: {lanes: 100}\n",
        4,
        "resources.lanes: expected a whole number from 1 to 64, or auto, got 100",
    ),
    "more trials than a ledger holds": (
        OBJECTIVES + "search: {candidates: 1000000000000}\n",
        4,
        "search.candidates: expected at most 1,000,000, got 1000000000000",
    ),
    "rungs without end": (
        OBJECTIVES + "early_stopping: {method: asha, reduction_factor: 1.000001}\n",
        4,
        "early_stopping: min_fraction .* make 2,197,226 rungs; at most 100",
    ),
    "weights past all bounds": (
        OBJECTIVES + "data: {mix: {a: 1e300, b: 1e300}}\n",
        4,
        "expected at most 1,000,000, got 1e",
    ),
    "an eps that is 0 in float32": (
        OBJECTIVES + "optimizer: {eps: 1e-50}\n",
        4,
        "optimizer.eps: expected at least 1e-37",
    ),
    "a hypervolume of zero": (
        "objectives:\n  - {metric: geometry/gap, reference: 1.0e-300, ideal: 0}\n",
        2,
        "ideal 0 must be below reference 1e-300",
    ),
    "a hypervolume without bounds": (
        "objectives:\n  - {metric: geometry/gap, reference: 1.0e+308, ideal: -1.0e+308}\n",
        2,
        "expected at most 1,000,000,000",
    ),
    "key twice": (OBJECTIVES + "seed: 1\nseed: 2\n", 5, "duplicate key 'seed'"),
    "unclosed bracket": ("objectives: [\n", 2, "not valid YAML"),
}


@pytest.mark.parametrize(("text", "line", "gist"), BROKEN.values(), ids=BROKEN)
def test_invalid_sweep_config_error_is_one_line_with_file_and_line(
    tmp_path: Path, text: str, line: int, gist: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_sweep_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: "), message
    assert re.search(gist, message), message
    assert "\n" not in message


# parameters


def test_parameters_are_all_leaves_but_of_the_model_only_those_of_heads() -> None:
    leaves = flatten(TrialConfig())
    outside = {name for name in leaves if name.split(".")[0] in NOT_PARAMETERS}
    assert set(parameter_fields()) == set(leaves) - outside | set(MODEL_PARAMETERS)
    assert {name: field.default for name, field in parameter_fields().items()} == {
        name: leaves[name] for name in parameter_fields()
    }


KNOB_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "temperature.schedule": st.sampled_from(["learned", "constant", "linear", "cosine", "exponential", "step"]),
    "temperature.tau_init": st.floats(0.01, 10),
    "temperature.tau_start": st.floats(1e-3, 10),
    "temperature.steps": st.integers(2, 100),
    "swap.kind": st.sampled_from(["none", "hard", "soft"]),
    "swap.probability": st.floats(0, 1),
    "swap.renormalize": st.booleans(),
    "optimizer.clip_norm": st.none() | st.floats(0.1, 10),
    "training.batch_size": st.integers(2, 4096),
    "model.name": st.sampled_from(["RN50", "scenes-tiny"]),
    "data.store": st.just("coco"),
    "device": st.sampled_from(["auto", "cpu", "cuda"]),
    "seed": st.integers(0, 2**31 - 1),
}
SOME_KNOBS = st.fixed_dictionaries({}, optional=KNOB_VALUES)


def test_heads_have_defaults_and_other_models_none() -> None:
    heads = ModelConfig(name="heads", dropout=0.1)
    assert {name: getattr(heads, name) for name in HEAD_DEFAULTS} == HEAD_DEFAULTS | {"dropout": 0.1}
    assert {getattr(ModelConfig(name="RN50"), name) for name in HEAD_DEFAULTS} == {None}


def test_params_of_heads_need_heads() -> None:
    heads = with_params(TrialConfig(), {"model.name": "heads", "model.head": "mlp"})
    assert (heads.model.head, heads.model.width) == ("mlp", 512)
    assert with_params(heads, {"model.name": "RN50"}).model == ModelConfig(name="RN50")
    with pytest.raises(UserError, match=r"model\.head: does not apply to the model scenes-tiny, which has no heads"):
        with_params(TrialConfig(), {"model.head": "mlp"})


@given(params=SOME_KNOBS)
def test_with_params_changes_only_the_given_params(params: dict[str, Any]) -> None:
    assert flatten(with_params(TrialConfig(), params)) == flatten(TrialConfig()) | params


@given(params=SOME_KNOBS)
def test_flattened_config_restores_the_configuration(params: dict[str, Any]) -> None:
    config = with_params(TrialConfig(), params)
    assert with_params(TrialConfig(), flatten(config)) == config
    assert TrialConfig.model_validate(unflatten(flatten(config))) == config


@given(first=SOME_KNOBS, second=SOME_KNOBS)
def test_later_params_override_earlier_params(first: dict[str, Any], second: dict[str, Any]) -> None:
    one_by_one = with_params(with_params(TrialConfig(), first), second)
    assert one_by_one == with_params(TrialConfig(), first | second)


@pytest.mark.parametrize(
    ("params", "gist"),
    [
        (
            {"temperature.tau_strat": 0.1},
            r"unknown parameter 'temperature.tau_strat' \(did you mean 'temperature.tau_start'",
        ),
        ({"temperature": 0.1}, "unknown parameter 'temperature'"),
        ({"objectives": []}, "unknown parameter 'objectives'"),
        ({"optimizer.lr": "fast"}, "optimizer.lr: .*got 'fast'"),
        ({"optimizer.lr": -1}, "optimizer.lr: expected more than 0, got -1"),
        ({"swap.kind": "hrad"}, r"swap.kind: .*got 'hrad' \(did you mean 'hard'\?\)"),
        (
            {"temperature.tau_min": 0.1},
            r"temperature: tau_init 0\.07 is outside \[tau_min, tau_max\] = \[0\.1, inf\]",
        ),
        (
            {"training.batch_size": 64, "training.micro_batch": 65},
            "training: micro_batch 65 is above batch_size 64",
        ),
        ({"swap.start": 0.9, "swap.end": 0.1}, r"swap: start \(0\.9\) must be less than end \(0\.1\)"),
    ],
)
def test_invalid_params_error_is_one_line(params: dict[str, Any], gist: str) -> None:
    with pytest.raises(UserError, match=gist) as caught:
        with_params(TrialConfig(), params)
    assert "\n" not in str(caught.value)


def test_tau_init_is_not_checked_unless_tau_is_learned() -> None:
    config = with_params(TrialConfig(), {"temperature.schedule": "constant", "temperature.tau_min": 0.1})
    assert config.temperature.tau_min == 0.1


def test_configurations_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrialConfig().temperature.tau_init = 0.1  # type: ignore[misc]


def test_sweep_config_survives_a_json_round_trip(tmp_path: Path) -> None:
    sweep = load_sweep_config(write(tmp_path, OBJECTIVES))
    assert SweepConfig.model_validate_json(sweep.model_dump_json()) == sweep


# --- evaluations ---

EVALUATE = "evaluate:\n  - {name: cifar10, data: 'cifar10:/data', tasks: [zeroshot, knn], when: epoch}\n"
TOP1 = """\
objectives:
  - {metric: geometry/gap, reference: 1.0, ideal: 0.0}
  - {metric: cifar10/zeroshot/top1, reference: 0.1, ideal: 1.0}
"""


def test_evaluation_metrics_can_be_objectives_and_constraints(tmp_path: Path) -> None:
    constraint = "constraints: [{metric: cifar10/knn/top1, min: 0.2}]\nearly_stopping: {method: asha}\n"
    sweep = load_sweep_config(write(tmp_path, TOP1 + EVALUATE + constraint))
    assert sweep.objectives[1].maximize
    assert sweep.trial({"seed": 3}).evaluate == sweep.evaluate
    assert sweep.evaluate[0].metrics == (
        "cifar10/zeroshot/top1",
        "cifar10/zeroshot/top5",
        "cifar10/zeroshot/mean_per_class_recall",
        "cifar10/knn/top1",
    )


@pytest.mark.parametrize(
    ("text", "gist"),
    [
        (TOP1, "cifar10/zeroshot/top1 is not measured: add it to evaluate"),
        (TOP1.replace("top1", "top2"), "unknown metric 'cifar10/zeroshot/top2'.*did you mean"),
        (TOP1 + EVALUATE.replace("zeroshot, ", ""), "cifar10/zeroshot/top1 is not measured"),
        (TOP1.replace("cifar10", "cifar") + EVALUATE, "did you mean 'cifar10/zeroshot/top1'"),
        (
            TOP1 + EVALUATE.replace("epoch", "end") + "early_stopping: {method: asha}\n",
            "too late for early stopping: set when to epoch",
        ),
        (OBJECTIVES + EVALUATE + "constraints: [{metric: cifar10/probe/top1, min: 0}]", "is not measured"),
        (OBJECTIVES + EVALUATE + EVALUATE.splitlines()[1], "duplicate name"),
        (OBJECTIVES + EVALUATE.replace("name: cifar10", "name: geometry"), "built-in metric names"),
        (OBJECTIVES + EVALUATE.replace("name: cifar10", "name: a/b"), "evaluate.0.name"),
        (OBJECTIVES + EVALUATE.replace("knn", "knm"), "evaluate.0.tasks.1.*did you mean 'knn'"),
        (OBJECTIVES + EVALUATE.replace("zeroshot, knn", ""), "evaluate.0.tasks: expected 1 or more entries"),
    ],
)
def test_invalid_evaluations_are_refused(tmp_path: Path, text: str, gist: str) -> None:
    with pytest.raises(UserError, match=gist):
        load_sweep_config(write(tmp_path, text))

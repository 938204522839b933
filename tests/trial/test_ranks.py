"""One training by several processes: the same as by one, whatever their number; and what happens if one is lost."""

import os
import signal
import time
from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
from rank_pool import Pool, doubled

from gaptune.config import EvaluationConfig, TrialConfig, with_params
from gaptune.config.models import PRESETS
from gaptune.data.open import open_store
from gaptune.errors import UserError
from gaptune.trial import NonFinite, loop, ranks
from gaptune.trial.embed import silent
from gaptune.trial.heads import Heads
from gaptune.trial.ranks import ALONE, RankLost, Ranks
from gaptune.trial.saver import Report, Saver

pytestmark = pytest.mark.whole

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"width": 32, "heads": 2, "layers": 1}
VIT = {"test-vit": {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": TEXT}}
BASE = {"device": "cpu", "training.epochs": 2, "training.batch_size": 30, "optimizer.lr": 2e-3}
SWAP = {"swap.probability": 1.0}
CASES = {
    "vit": {"model.name": "test-vit", "augment.crop_min": 0.5, "augment.flip": True, "swap.kind": "hard", **SWAP}
    | {"optimizer.clip_norm": 0.1},
    "vit in parts": {"model.name": "test-vit", "training.micro_batch": 4, "training.grad_checkpointing": True}
    | {"swap.kind": "soft", "swap.renormalize": True, "temperature.schedule": "cosine", **SWAP},
    "vit, image tower frozen": {"model.name": "test-vit", "model.freeze": "image", "swap.kind": "soft", **SWAP}
    | {"temperature.parameterization": "softplus"},
    "batch norm": {"model.name": "scenes-tiny", "swap.kind": "soft", **SWAP} | {"training.epochs": 1},
    "heads": {"model.name": "heads", "swap.kind": "hard", "swap.renormalize": True, **SWAP},
    "heads in parts": {"model.name": "heads", "model.dropout": 0.0, "training.micro_batch": 7, "swap.kind": "soft"}
    | {"swap.probability": 0.5, "optimizer.clip_norm": 0.01, "temperature.tau_max": 0.07, "training.batch_size": 31},
}


@pytest.fixture(scope="module")
def pool():
    made = Pool()
    yield made
    made.close()


@pytest.fixture
def data(store, small_features):
    """The data of a model."""
    return lambda params: str(small_features if params["model.name"] == "heads" else store.path)


def config_of(params, path):
    config = with_params(TrialConfig.model_validate({"model": {"name": params["model.name"]}}), BASE | params)
    tasks = ["zeroshot", "probe", "knn", "retrieval"] if params["model.name"] == "scenes-tiny" else ["retrieval"]
    given = EvaluationConfig.model_validate({"name": "again", "data": path, "tasks": tasks})
    return config.model_copy(update={"evaluate": (given,)})


def train(group, params, path, *, folder=None, until=None, progress=silent, disturb=(), double=True):
    """Reports without times, and the weights."""
    found = {}
    training = loop.Training

    def noted(*args):
        found["training"] = training(*args)
        return found["training"]

    with ExitStack() as contexts:
        for each in [patch.dict(PRESETS, VIT), *(doubled(loop) if double else ()), *disturb]:
            contexts.enter_context(each)
        contexts.enter_context(patch.object(loop, "Training", noted))
        reports = []
        data = open_store(path)
        running = loop.train(config_of(params, path), data, checkpoints=folder, progress=progress, ranks=group)
        for report in running:
            metrics = {name: value for name, value in report.metrics.items() if not name.startswith("time/")}
            reports.append((report.epoch, report.step, metrics))
            if report.epoch == until:
                running.close()
    weights = found["training"].model.tower.state_dict() | found["training"].scale.state_dict()
    return reports, {name: weight.numpy() for name, weight in weights.items()}


def assert_same(one, other, most):
    for (*where, metrics), (*expected, others) in zip(one[0], other[0], strict=True):
        assert where == expected
        assert metrics == pytest.approx(others, rel=max(most, 1e-8), abs=max(most, 1e-8))
    assert one[1].keys() == other[1].keys()
    for name, weight in one[1].items():
        assert abs(weight - other[1][name]).max() <= most, name


# --- the same training ---


@pytest.mark.parametrize("case", CASES)
def test_several_ranks_train_as_one(case, pool, data):
    params = CASES[case]
    (alone,) = pool.run(1, train, params, data(params))
    for size in (2, 4):
        several = pool.run(size, train, params, data(params))
        for each in several:
            assert each[0] == several[0][0]  # everybody reports the numbers of rank 0
            assert_same(each, alone, 1e-10)


@pytest.mark.parametrize("case", ["vit", "heads"])
def test_in_single_precision_ranks_differ_by_rounding_only(case, pool, data):
    params = CASES[case] | {"optimizer.lr": 1e-4}
    (alone,) = pool.run(1, single, params, data(params))
    for each in pool.run(2, single, params, data(params)):
        assert_same(each, alone, 1e-6)


def single(group, params, path):
    return train(group, params, path, double=False)


# --- checkpoints ---


def resumed(group, params, path, folder, until=None, killed=None):
    """Trains, with checkpoints where rank 0 is; one rank kills itself in the middle of the second epoch."""

    def progress(epochs=None):
        if group.rank == killed and epochs is not None and epochs > 1.4:
            os.kill(os.getpid(), signal.SIGKILL)

    return train(group, params, path, folder=folder if group.rank == 0 else None, until=until, progress=progress)


@pytest.mark.parametrize(("killed", "sizes"), [(1, (2, 4)), (0, (4, 1)), (2, (3, 2))])
def test_after_a_rank_was_killed_any_number_of_ranks_resumes(killed, sizes, pool, data, tmp_path):
    params = CASES["vit"] | {"training.epochs": 3}
    (undisturbed,) = pool.run(1, train, params, data(params))
    answers = pool.run(sizes[0], resumed, params, data(params), tmp_path, None, killed)
    assert answers.pop(killed) is None
    assert all(isinstance(each, RankLost | TimeoutError) for each in answers)
    assert any(isinstance(each, RankLost) for each in answers)
    assert [path.name for path in tmp_path.glob("epoch-????.pt")] == ["epoch-0001.pt"]
    for each in pool.run(sizes[1], resumed, params, data(params), tmp_path):
        assert_same(each, undisturbed, 1e-10)
    assert {"sample.npz", "outcomes.npz"} <= {path.name for path in tmp_path.iterdir()}


def test_a_training_that_is_stopped_between_reports_leaves_no_rank_waiting(pool, data, tmp_path):
    params = CASES["heads"]
    for each in pool.run(2, resumed, params, data(params), tmp_path, 1):
        assert [epoch for epoch, *_ in each[0]] == [1]
    (alone,) = pool.run(1, train, params, data(params))
    for each in pool.run(2, resumed, params, data(params), tmp_path):
        assert_same(each, alone, 1e-10)


class SlowDisk:
    """Checkpoints that take some time to write."""

    def save(self, epoch, state):
        time.sleep(0.3)


def given_out(group):
    seen = []
    with Saver(SlowDisk() if group.rank == 0 else None, beside=True, ranks=group) as saver:
        saver.save(Report(1, 1, {}), {})
        while not (reports := list(saver.saved())):
            seen.append(reports)
    return len(seen)


def test_all_ranks_give_out_a_report_after_the_same_step(pool):
    first, *others = pool.run(3, given_out)
    assert first > 0
    assert others == [first, first]


# --- errors ---


def not_finite(group, params, path, where):
    """The features of one rank's pairs are NaN, in training or in evaluation."""
    wrong = group.rank == 1
    embedded = loop.Updates._embed

    def in_training(updates, *inputs):
        x, y = embedded(updates, *inputs)
        return (x * float("nan") if wrong and updates._steps == 2 else x), y

    encode = Heads.encode_image
    disturb = {
        "training": patch.object(loop.Updates, "_embed", in_training),
        "evaluation": patch.object(
            Heads, "encode_image", lambda model, images: encode(model, images) * (float("nan") if wrong else 1.0)
        ),
    }
    return train(group, params, path, disturb=[disturb[where]])


@pytest.mark.parametrize(("where", "says"), [("training", "at step 2"), ("evaluation", "image features")])
def test_all_ranks_raise_what_is_not_finite_on_one(where, says, pool, data):
    params = CASES["heads"]
    for error in pool.run(3, not_finite, params, data(params), where):
        assert isinstance(error, NonFinite)
        assert says in str(error)


def test_all_ranks_raise_what_is_wrong_with_the_checkpoints(pool, data, tmp_path):
    params = CASES["heads"]
    pool.run(1, resumed, params, data(params), tmp_path, 1)
    for error in pool.run(2, resumed, params | {"training.batch_size": 20}, data(params), tmp_path):
        assert isinstance(error, UserError)
        assert "another configuration" in str(error)


def test_a_batch_has_a_pair_for_each_rank(pool, data):
    params = CASES["heads"] | {"training.batch_size": 3}
    for error in pool.run(4, train, params, data(params)):
        assert isinstance(error, UserError)
        assert "batch_size 3 is less than the 4 processes" in str(error)


def raises(group):
    def compute():
        raise UserError("no disk") if group.rank == 0 else AssertionError("only rank 0 computes")

    return group.from_first(compute)


def test_what_rank_0_raises_is_raised_by_all(pool):
    assert [str(error) for error in pool.run(2, raises)] == ["no disk", "no disk"]


def too_late():
    ranks.join(1, 2, "127.0.0.1:9", timeout=0.5)


def test_a_rank_that_finds_nobody_says_so():
    with pytest.raises(RankLost, match="no longer connected"):
        too_late()


# --- what ranks tell each other ---


@pytest.mark.parametrize("n", [4, 7, 8, 101])
def test_shares_are_all_rows_in_order_and_nearly_equal(n):
    shares = [range(n)[Ranks(rank, 4).rows(n)] for rank in range(4)]
    assert [row for share in shares for row in share] == list(range(n))
    assert {len(share) for share in shares} <= {n // 4, n // 4 + 1}


VALUE = {
    "weights": {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3), "none": torch.zeros(0, 2)},
    "optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "groups": [{"betas": (0.9, 0.98)}]},
    "half": torch.ones(3, dtype=torch.bfloat16),
    "report": {"loss": 0.1, "epoch": 3, "name": None},
}


def told(group):
    return group.told(VALUE if group.rank == 0 else None)


def test_what_rank_0_tells_arrives_whole(pool):
    for heard in pool.run(2, told):
        torch.testing.assert_close(heard["weights"], VALUE["weights"], rtol=0, atol=0, check_stride=False)
        assert torch.equal(heard["half"], VALUE["half"])
        assert heard["optimizer"] == VALUE["optimizer"]
        assert heard["report"] == VALUE["report"]


def added(group):
    tensors = [torch.full((3, 2), 1.0 + group.rank).T, torch.tensor(group.rank), torch.full((5,), 2.0**group.rank)]
    with patch.object(ranks, "_BUCKET", 24):
        group.add(tensors)
    copied = torch.full((4,), group.rank)
    group.copy_first([copied])
    return [each.tolist() for each in (*tensors, copied)]


def test_tensors_of_all_shapes_and_types_are_summed(pool):
    assert pool.run(3, added) == [[[[6.0] * 3] * 2, 3, [7.0] * 5, [0] * 4]] * 3


def test_one_alone_needs_no_others():
    assert ranks.join(0, 1, "nowhere:1") is ALONE
    assert ALONE.told(VALUE) is VALUE

"""Batch norm over the pairs of several ranks."""

import copy
from unittest.mock import patch

import pytest
import torch
from rank_pool import Pool
from timm.layers import BatchNormAct2d
from torch import nn

from gaptune.config import ModelConfig, TrainingConfig
from gaptune.errors import UserError
from gaptune.trial.batch_norm import SummedNorm, synchronize
from gaptune.trial.build_model import make_model
from gaptune.trial.ranks import ALONE, Ranks

CPU = torch.device("cpu")
SHAPES = {nn.BatchNorm1d: (7, 3), nn.BatchNorm2d: (7, 3, 4, 4)}


@pytest.fixture
def model(store):
    return lambda **more: make_model(ModelConfig(**more), store.meta).train()


def results(norm, inputs):
    """Outputs, gradient of the inputs, gradients of the weights, and statistics, after two steps."""
    for scale in (1.0, 3.0):
        x = (inputs * scale).requires_grad_()
        y = norm(x)
        y.pow(3).sum().backward()
    return y.detach(), x.grad, [each.grad for each in norm.parameters()], norm.state_dict()


def share_of(group, norm, inputs):
    norm = copy.deepcopy(norm)  # what comes by a pipe has its memory in common with the other ranks
    outputs, of_inputs, of_weights, statistics = results(SummedNorm(norm, group), inputs[group.rows(len(inputs))])
    group.add(of_weights)
    return group.gathered(outputs.flatten(1), 7), group.gathered(of_inputs.flatten(1), 7), of_weights, statistics


@pytest.mark.whole
def test_several_ranks_have_the_statistics_and_gradients_of_all():
    pool = Pool()
    for kind, shape in SHAPES.items():
        torch.manual_seed(0)
        norm, inputs = kind(3).double(), 5.0 + torch.randn(shape, dtype=torch.double)
        nn.init.normal_(norm.weight)
        outputs, of_inputs, *expected = results(copy.deepcopy(norm), inputs)
        for size in (2, 3):
            for found in pool.run(size, share_of, norm, inputs):
                torch.testing.assert_close(
                    found, (outputs.flatten(1), of_inputs.flatten(1), *expected), rtol=1e-12, atol=1e-10
                )
    pool.close()


def test_a_model_keeps_the_names_of_its_weights_and_its_results_in_evaluation(model):
    one, several = model(), model()
    several.load_state_dict(one.state_dict())
    synchronize(several, TrainingConfig(), CPU, Ranks(0, 2))
    assert sum(isinstance(each, SummedNorm) for each in several.modules()) == sum(
        isinstance(each, nn.BatchNorm2d) for each in one.modules()
    )
    assert list(several.state_dict()) == list(one.state_dict())
    images = torch.rand(3, 3, one.image_size, one.image_size)
    assert torch.equal(several.eval().embed_images(images), one.eval().embed_images(images))


def test_on_cards_it_is_that_of_torch(model):
    several = model()
    synchronize(several, TrainingConfig(), torch.device("cuda"), Ranks(0, 2))
    assert any(isinstance(each, nn.SyncBatchNorm) for each in several.modules())
    assert not any(isinstance(each, nn.BatchNorm2d) for each in several.modules())
    several.tower.visual.bn1 = BatchNormAct2d(12, act_layer=nn.SiLU)
    synchronize(several, TrainingConfig(), torch.device("cuda"), Ranks(0, 2))
    assert isinstance(several.tower.visual.bn1, nn.SyncBatchNorm)
    assert isinstance(several.tower.visual.bn1.act, nn.SiLU)  # which torch's own conversion drops


def test_what_would_depend_on_the_number_of_ranks_is_refused(model):
    parts = TrainingConfig(batch_size=32, micro_batch=8)
    with pytest.raises(UserError, match=r"micro_batch: scenes-tiny has batch norm"):
        synchronize(model(), parts, CPU, Ranks(0, 2))
    other = model()
    other.tower.visual.bn1 = BatchNormAct2d(12)
    with pytest.raises(UserError, match="BatchNormAct2d"):
        synchronize(other, TrainingConfig(), CPU, Ranks(0, 2))


@pytest.mark.parametrize(("frozen", "ranks"), [(None, ALONE), ("image", Ranks(0, 2))])
def test_what_needs_no_others_stays_as_it_is(frozen, ranks, model):
    given = model(freeze=frozen)
    with patch.object(SummedNorm, "__init__", side_effect=AssertionError):
        synchronize(given, TrainingConfig(batch_size=32, micro_batch=8), CPU, ranks)

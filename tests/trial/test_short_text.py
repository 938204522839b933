"""Text towers on captions cut to their length."""

import open_clip
import pytest
import torch
import torch.nn.functional as F

from gaptune.trial.short_text import GROUPS, by_length, encode_short, is_causal

LENGTHS = [3, 9, 4, 4, 17, 8, 30, 5] * 8


def tower(**text):
    """A small CLIP whose text tower has some options."""
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    sizes = {"context_length": 32, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2}
    torch.manual_seed(0)
    if text.pop("custom", False):
        return open_clip.CustomTextCLIP(embed_dim=16, vision_cfg=vision, text_cfg={**sizes, **text})
    return open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg={**sizes, **text})


@pytest.fixture
def ids():
    random = torch.Generator().manual_seed(0)
    rows = torch.zeros(len(LENGTHS), 32, dtype=torch.int64)
    for row, length in zip(rows, LENGTHS, strict=True):
        row[: length - 1] = torch.randint(0, 98, (length - 1,), generator=random)  # 0 may be a token, too
        row[length - 1] = 99
    return rows


@pytest.mark.parametrize("kind", [{}, {"custom": True}, {"pool_type": "eos", "eos_id": 99}])
def test_features_and_gradients_are_those_of_the_whole_context(kind, ids):
    one = tower(**kind).double()
    assert is_causal(one)
    weight = torch.rand(len(ids), 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = {}
    for name in ("whole", "groups", "cut"):
        if name == "groups":
            order, groups = by_length(ids)
            features = torch.cat([encode_short(one, group) for group in groups])[order.argsort()]
        else:
            features = one.encode_text(ids) if name == "whole" else encode_short(one, ids[:, :30])
        one.zero_grad()
        (features * weight).sum().backward()
        found[name] = features, [each.grad.clone() for each in one.parameters() if each.grad is not None]
    for name in ("groups", "cut"):
        torch.testing.assert_close(found[name][0], found["whole"][0], atol=1e-12, rtol=1e-10)
        for mine, theirs in zip(found[name][1], found["whole"][1], strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize(
    "kind",
    [
        {"no_causal_mask": True},
        {"pool_type": "first"},
        {"custom": True, "embed_cls": True},
        {"custom": True, "no_causal_mask": True},
    ],
)
def test_tower_that_looks_behind_the_end_token_is_known(kind):
    assert not is_causal(tower(**kind))


def test_groups_hold_every_caption_once_and_lose_no_token(ids):
    order, groups = by_length(ids)
    assert len(groups) == GROUPS
    assert sorted(order.tolist()) == list(range(len(ids)))
    whole = torch.cat([F.pad(group, (0, 32 - group.shape[1])) for group in groups])
    assert torch.equal(whole[order.argsort()], ids)
    assert sum(group.numel() for group in groups) < 0.6 * ids.numel()


def test_few_captions_are_one_group_and_empty_ones_have_a_column():
    assert len(by_length(torch.ones(5, 7, dtype=torch.int64))[1]) == 1
    assert by_length(torch.zeros(3, 7, dtype=torch.int64))[1][0].shape == (3, 1)

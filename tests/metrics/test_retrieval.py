"""Recalls against a brute-force loop, and all scores of pairs together."""

import math
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sphere import rotation, unit

from gaptune.metrics import retrieval
from gaptune.metrics.embeddings import Embeddings, embedding_metrics
from gaptune.metrics.geometry import alignment, gap, margin_and_mismatched
from gaptune.metrics.retrieval import measure
from gaptune.metrics.table import METRICS
from gaptune.metrics.uniformity import w2, wang_isola


def recalls(images, texts, owner):
    """The recalls in both directions, and their mean."""
    return measure(Embeddings(images, texts, owner, paired=texts))


def plain_recalls(images, texts, owner):
    """Sorts every list of candidates, wrong ones first among equals."""
    cosine, owner = (images @ texts.T).tolist(), owner.tolist()
    scores = {}
    for k in (1, 5, 10):
        i2t, t2i = [], []
        for i, row in enumerate(cosine):
            ranking = sorted(range(len(texts)), key=lambda j: (-row[j], owner[j] == i))
            i2t.append(any(owner[j] == i for j in ranking[:k]))
        for j, mine in enumerate(owner):
            ranking = sorted(range(len(images)), key=lambda i: (-cosine[i][j], i == mine))
            t2i.append(mine in ranking[:k])
        scores[f"retrieval/i2t_r{k}"] = sum(i2t) / len(i2t)
        scores[f"retrieval/t2i_r{k}"] = sum(t2i) / len(t2i)
        scores[f"retrieval/mean_r{k}"] = (scores[f"retrieval/i2t_r{k}"] + scores[f"retrieval/t2i_r{k}"]) / 2
    return scores


@st.composite
def captioned(draw, coarse):
    """Images with one to four captions each; ``coarse`` features are small integers, which tie exactly."""
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=14))
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    seed, d = draw(st.integers(0, 2**16)), draw(st.integers(2, 6))
    images, noise = unit(len(counts), d, seed), unit(len(owner), d, seed + 1)
    texts = torch.nn.functional.normalize(images[owner] + draw(st.sampled_from([0.1, 1.0, 5.0])) * noise, dim=1)
    if coarse:
        images, texts = (images * 1.5).round(), (texts * 1.5).round()
    return images, texts, owner


@given(captioned(coarse=False))
def test_recalls_agree_with_a_brute_force_loop(case):
    assert recalls(*case) == pytest.approx(plain_recalls(*case))


@given(captioned(coarse=True))
def test_tie_counts_as_a_loss(case):
    assert recalls(*case) == pytest.approx(plain_recalls(*case))


@given(captioned(coarse=True), st.randoms(use_true_random=False))
def test_recalls_do_not_depend_on_the_order_of_images_and_texts(case, random):
    images, texts, owner = case
    new_images = torch.tensor(random.sample(range(len(images)), len(images)))
    new_texts = torch.tensor(random.sample(range(len(texts)), len(texts)))
    place = torch.argsort(new_images)
    assert recalls(images[new_images], texts[new_texts], place[owner[new_texts]]) == recalls(*case)


@given(captioned(coarse=False), st.integers(0, 99))
def test_recalls_are_invariant_under_rotation(case, seed):
    images, texts, owner = case
    turn = rotation(images.shape[1], seed)
    assert recalls(images @ turn, texts @ turn, owner) == recalls(images, texts, owner)


def test_one_right_caption_is_enough_for_an_image_but_each_caption_counts_for_itself():
    images = torch.eye(2)
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.9]])  # the second caption of image 0 fits image 1
    scores = recalls(images, texts, torch.tensor([0, 0, 1]))
    assert scores["retrieval/i2t_r1"] == 0.5
    assert scores["retrieval/t2i_r1"] == pytest.approx(2 / 3)


def test_perfect_features_have_a_recall_of_1():
    assert set(recalls(torch.eye(30), torch.eye(30), torch.arange(30)).values()) == {1.0}


# Of 1025, the last block is a single row, and one row is summed up otherwise than many.
@pytest.mark.parametrize("n", [11, 512, 1025, 1500])
@pytest.mark.parametrize("captions", [1, 2])
@pytest.mark.parametrize("d", [16, 64, 100, 1024])
@pytest.mark.parametrize("exactly", [True, False])
def test_collapsed_features_have_a_recall_of_0(n, captions, d, exactly):
    owner = torch.arange(n).repeat_interleave(captions)
    image, text = unit(2, d, dtype=torch.float32)
    images, texts = image.repeat(n, 1), text.repeat(len(owner), 1)
    if not exactly:  # but to within rounding: each entry by up to one last place
        generator = torch.Generator().manual_seed(n)
        for side in (images, texts):
            side *= 1 + torch.finfo().eps * (2 * torch.rand(side.shape, generator=generator) - 1)
    assert set(recalls(images, texts, owner).values()) == {0.0}


@given(captioned(coarse=True))
def test_blocks_change_nothing(case):
    whole = recalls(*case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_BLOCK", 3)
        assert recalls(*case) == whole


@pytest.mark.parametrize(
    ("images", "texts", "owner"),
    [
        ((4, 3), (4, 2), [0, 1, 2, 3]),
        ((4, 3), (4, 3), [0, 1, 2]),
        ((4,), (4,), [0, 1, 2, 3]),
        ((0, 3), (0, 3), []),
        ((4, 3), (4, 3), [0, 1, 2, 2]),
        ((4, 3), (4, 3), [0, 1, 2, 4]),
        ((3, 3), (4, 3), [0, 1, 2, 3]),
        ((3, 3), (4, 3), [0, 1, 2, -1]),
    ],
    ids=[
        "widths",
        "owners",
        "vectors",
        "nothing",
        "image without text",
        "gap in owners",
        "text without image",
        "negative owner",
    ],
)
@pytest.mark.parametrize("metric", [recalls, embedding_metrics])
def test_inconsistent_shapes_are_refused(metric, images, texts, owner):
    with pytest.raises(ValueError, match=r"expected images|has no text"):
        metric(torch.zeros(images), torch.zeros(texts), torch.tensor(owner, dtype=torch.int64))


def test_all_metrics_of_pairs_are_listed_and_taken_from_the_first_captions():
    images, texts = unit(6, 8, 1), unit(13, 8, 2)
    owner = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5, 5])
    scores = embedding_metrics(images, texts, owner)
    groups = ("geometry/", "uniformity/", "retrieval/")
    assert set(scores) == {name for name in METRICS if name.startswith(groups)}
    assert all(math.isfinite(value) for value in scores.values())
    paired = texts[[0, 2, 3, 6, 7, 9]]
    margin, mismatched = margin_and_mismatched(images, paired)
    both = torch.cat([images, paired])
    assert scores == {
        "geometry/gap": gap(images, paired),
        "geometry/alignment": alignment(images, paired),
        "geometry/margin": margin,
        "geometry/mismatched": mismatched,
        "uniformity/w2": w2(both),
        "uniformity/w2_image": w2(images),
        "uniformity/w2_text": w2(paired),
        "uniformity/wang_isola": wang_isola(both),
        "uniformity/wang_isola_image": wang_isola(images),
        "uniformity/wang_isola_text": wang_isola(paired),
        **recalls(images, texts, owner),
    }


def test_order_of_the_texts_changes_no_metric_of_pairs():
    images, texts, owner = unit(5, 8, 1), unit(10, 8, 2), torch.arange(5).repeat_interleave(2)
    mixed = torch.tensor([4, 0, 8, 1, 2, 6, 5, 9, 3, 7])  # each image's first caption is still before its second
    assert embedding_metrics(images, texts[mixed], owner[mixed]) == pytest.approx(
        embedding_metrics(images, texts, owner)
    )


def test_thousand_images_with_five_captions_each_take_less_than_half_a_second():
    images, texts = unit(1024, 64, 1, torch.float32), unit(5120, 64, 2, torch.float32)
    started = time.process_time()
    recalls(images, texts, torch.arange(1024).repeat_interleave(5))
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_features_that_are_not_finite_are_refused(value, side):
    sides = [unit(4, 3, 1), unit(4, 3, 2)]
    sides[side][2, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        embedding_metrics(*sides, torch.arange(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_results_on_gpu_and_cpu_agree():
    images, texts = unit(300, 64, 1, torch.float32), unit(600, 64, 2, torch.float32)
    owner = torch.arange(300).repeat_interleave(2)
    on_gpu = embedding_metrics(images.cuda(), texts.cuda(), owner.cuda())
    assert on_gpu == pytest.approx(embedding_metrics(images, texts, owner), abs=1e-5)

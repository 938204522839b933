"""Zero-shot classification and the linear probe."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sphere import unit

from gaptune.metrics.classification import class_embeddings, linear_probe, zero_shot


def top1(images, texts, labels):
    return zero_shot(images, texts, labels)["zeroshot/top1"].mean()


@given(st.integers(1, 20), st.integers(1, 6), st.integers(2, 8), st.integers(0, 999))
def test_zero_shot_agrees_with_a_loop(n, classes, d, seed):
    images, texts = unit(n, d, seed), unit(classes, d, seed + 1)
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    right = [max(range(classes), key=row.__getitem__) for row in (images @ texts.T).tolist()]
    expected = sum(guess == label for guess, label in zip(right, labels.tolist(), strict=True)) / n
    assert top1(images, texts, labels) == pytest.approx(expected)


def test_tie_with_another_class_is_wrong():
    images, texts = torch.eye(3)[[0, 1, 2]], torch.eye(3)[[0, 0, 1]]
    assert top1(images, texts, torch.tensor([0, 2, 2])) == pytest.approx(1 / 3)  # only the second is alone
    assert top1(images, unit(1, 3, dtype=torch.float32).repeat(4, 1), torch.tensor([0, 1, 2])) == 0.0


def test_class_embeddings_are_the_mean_directions_of_each_classs_prompts():
    texts = unit(6, 5)
    expected = torch.stack([texts[:3].mean(0), texts[3:].mean(0)])
    expected /= expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(class_embeddings(texts, 2), expected)


@pytest.mark.parametrize(("shape", "classes"), [((5, 4), 2), ((4, 4), 0), ((4,), 2)])
def test_prompts_that_cannot_be_shared_out_are_refused(shape, classes):
    with pytest.raises(ValueError, match="shared out"):
        class_embeddings(torch.zeros(shape), classes)


@pytest.mark.parametrize(("texts", "labels"), [((3, 4), 4), ((3, 5), 5), ((3,), 5)])
def test_zero_shot_refuses_shapes_that_do_not_match(texts, labels):
    with pytest.raises(ValueError, match="expected images"):
        zero_shot(torch.zeros(5, 4), torch.zeros(texts), torch.zeros(labels, dtype=torch.int64))


def clusters(per_class, seed, spread=0.1):
    """Features around each of four directions, with their labels."""
    labels = torch.arange(4).repeat(per_class)
    noise = spread * unit(len(labels), 8, seed)
    return torch.nn.functional.normalize(torch.eye(8, dtype=torch.float64)[labels] + noise, dim=1), labels


def test_probe_separates_separable_classes():
    assert linear_probe(*clusters(20, 1), *clusters(10, 2)) == 1.0


def test_probe_separates_classes_in_a_narrow_cone():
    # Classes that differ by little, as in a narrow cone; a probe with strong regularization would guess.
    far = 3 * torch.ones(8, dtype=torch.float64)
    (train_x, train_y), (test_x, test_y) = clusters(20, 1), clusters(10, 2)
    narrow = [torch.nn.functional.normalize(x + far, dim=1) for x in (train_x, test_x)]
    assert linear_probe(narrow[0], train_y, narrow[1], test_y) > 0.95


def test_probe_is_at_chance_on_noise():
    labels = torch.arange(4).repeat(100)
    assert linear_probe(unit(400, 8, 1), labels, unit(400, 8, 2), labels) == pytest.approx(0.25, abs=0.1)


def test_probe_is_deterministic():
    noise = unit(200, 8, 1), torch.arange(4).repeat(50), unit(100, 8, 2), torch.arange(4).repeat(25)
    assert linear_probe(*noise) == linear_probe(*noise)


@pytest.mark.parametrize("keep", [(7, 8, 8, 8), (8, 7, 8, 8), (8, 8, 7, 8), (8, 8, 8, 1)])
def test_probe_refuses_shapes_that_do_not_match(keep):
    x, y = clusters(2, 1)
    parts = [part[:rows] for part, rows in zip((x, y, x, y), keep, strict=True)]
    with pytest.raises(ValueError, match=r"inconsistent numbers"):
        linear_probe(*parts)


def test_probe_refuses_a_single_class():
    x, _ = clusters(2, 1)
    with pytest.raises(ValueError, match="class"):
        linear_probe(x, torch.zeros(8, dtype=torch.int64), x, torch.zeros(8, dtype=torch.int64))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_results_on_gpu_and_cpu_agree():
    (train_x, train_y), (test_x, test_y) = clusters(20, 1), clusters(10, 2, spread=2.0)
    on_gpu = [part.cuda() for part in (train_x, train_y, test_x, test_y)]
    assert linear_probe(*on_gpu) == linear_probe(train_x, train_y, test_x, test_y)
    directions = torch.eye(8, dtype=torch.float64)[:4]
    assert top1(on_gpu[2], directions.cuda(), on_gpu[3]) == top1(test_x, directions, test_y)

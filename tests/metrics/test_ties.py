"""Features that have collapsed score nothing, or what chance would; the order of sums decides nothing."""

import pytest
import torch
import torch.nn.functional as F
from sphere import unit

from gaptune.metrics.classification import knn_accuracy, zero_shot
from gaptune.metrics.embeddings import embedding_metrics
from gaptune.metrics.geometry import margin_and_mismatched
from gaptune.metrics.mmvp import pair_accuracy
from gaptune.metrics.retrieval import recalls

CASES = [(d, n, dtype) for d in (3, 64, 512) for n in (40, 257) for dtype in (torch.float32, torch.float64)]


def collapsed(n, d, dtype, seed=0):
    """Equal features but for a last place, as a network gives them."""
    one = unit(1, d, seed, dtype)
    flicker = torch.randint(-1, 2, (n, d), generator=torch.Generator().manual_seed(seed + 1))
    return one * (1 + flicker * torch.finfo(dtype).eps / 2)


@pytest.mark.parametrize(("d", "n", "dtype"), CASES)
def test_collapsed_features_have_no_margin_and_no_matches(d, n, dtype):
    for x, y in (
        (collapsed(n, d, dtype), collapsed(n, d, dtype, 7)),
        (collapsed(n, d, dtype), collapsed(n, d, dtype)),
    ):
        assert margin_and_mismatched(x, y) == (0.0, 1.0)
        assert {each.mean() for each in recalls(x, y, torch.arange(n)).values()} == {0.0}
        assert embedding_metrics(x, y, torch.arange(n))["geometry/mismatched"] == 1.0


@pytest.mark.parametrize(("d", "n", "dtype"), CASES)
def test_collapsed_features_have_no_right_class_and_no_right_pair(d, n, dtype):
    x, labels = collapsed(n, d, dtype), torch.arange(n) % 10
    for texts in (unit(1, d, 3, dtype).repeat(10, 1), collapsed(10, d, dtype, 5)):
        assert {each.mean() for each in zero_shot(x, texts, labels).values()} == {0.0}
    even = x[: n // 2 * 2]
    assert float(pair_accuracy(even, unit(len(even), d, 3, dtype)).sum()) == 0.0
    assert float(pair_accuracy(unit(len(even), d, 3, dtype), even).sum()) == 0.0


@pytest.mark.parametrize(("d", "n", "dtype"), CASES)
def test_neighbors_of_collapsed_features_all_vote(d, n, dtype):
    x, labels = collapsed(20 * 7, d, dtype), torch.arange(20 * 7) % 7
    test, test_y = collapsed(n, d, dtype, 1), torch.arange(n) % 7
    assert float(knn_accuracy(x, labels, test, test_y).sum()) == 0.0  # as many votes for each class
    assert float(knn_accuracy(x, labels, x, labels).sum()) == 0.0
    most = torch.where(torch.arange(len(x)) < 40, 3, labels)  # now class 3 has most
    for order in (torch.arange(len(x)), torch.randperm(len(x), generator=torch.manual_seed(0))):
        assert torch.equal(knn_accuracy(x[order], most[order], test, test_y), (test_y == 3).double())


def test_equal_images_tie_and_others_do_not():
    x, y = unit(30, 64, 0, torch.float32), unit(30, 64, 1, torch.float32)
    y = F.normalize(x + 0.1 * y, dim=1)
    y[7] = y[3]
    margin, mismatched = margin_and_mismatched(x, y)
    assert 0 < margin < 1
    assert mismatched == pytest.approx((2 + 1) / 60)  # both images tie; of the equal texts, one has the wrong match

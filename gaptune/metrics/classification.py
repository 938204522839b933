"""Classification with frozen features: zero-shot by class prompts, linear probes, and nearest neighbors.

All but ``linear_probe``, which a trial reports of its own data, give a value per image, for an interval of their mean.
"""

from __future__ import annotations

import logging
import math
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gaptune.metrics.held_out import held_out
from gaptune.metrics.intervals import Outcomes
from gaptune.metrics.ties import rounding

_log = logging.getLogger(__name__)

_PROBE_C = 100.0
"""Inverse regularization of the probe: features of length 1 need weights far from 0 to separate classes."""
_CS = tuple(10.0**power for power in range(-1, 5))
_STEPS = 10_000
"""Maximum number of L-BFGS steps. CLIP features need far fewer: tens to a thousand."""
_KNN_BLOCK = 256


def class_embeddings(texts: Tensor, classes: int) -> Tensor:
    """The mean direction of each class's prompts (Radford et al. 2021, section 3.1.4).

    Args:
        texts: Shape (classes · templates, d), L2-normalized, all prompts of a class together.
        classes: Number of classes.

    Returns:
        Shape (classes, d), L2-normalized.

    Raises:
        ValueError: The texts cannot be shared out evenly.
    """
    if texts.ndim != 2 or classes < 1 or len(texts) % classes:
        raise ValueError(f"{tuple(texts.shape)} prompt features cannot be shared out to {classes} classes")
    return F.normalize(texts.reshape(classes, -1, texts.shape[1]).mean(1), dim=1)


def linear_probe(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> float:
    """Test accuracy of a multinomial logistic regression on frozen image features (scikit-learn, L-BFGS, C = 100).

    The fit runs until scikit-learn calls it converged; a warning is logged if it never does.

    Args:
        train_x: Shape (n, d), L2-normalized.
        train_y: Shape (n,).
        test_x: Shape (m, d), L2-normalized.
        test_y: Shape (m,).

    Raises:
        ValueError: The shapes do not match, or there is a single class.
    """
    model = _fitted(_PROBE_C, train_x.float().cpu().numpy(), train_y.cpu().numpy())
    return float(model.score(test_x.float().cpu().numpy(), test_y.cpu().numpy()))


def zero_shot(images: Tensor, class_texts: Tensor, labels: Tensor) -> dict[str, Outcomes]:
    """Zero-shot metrics as clip_benchmark's ``acc1``, ``acc5`` and ``mean_per_class_recall``, image by image.

    A tie with another class, to within rounding, is wrong (there it is decided by the order of the classes).

    Args:
        images: Shape (n, d), L2-normalized.
        class_texts: Shape (classes, d), L2-normalized.
        labels: Shape (n,).

    Returns:
        ``zeroshot/top1``, ``zeroshot/top5`` (all right where there are five classes or fewer) and
        ``zeroshot/mean_per_class_recall`` (over the classes that have images).

    Raises:
        ValueError: The shapes do not match.
    """
    ahead = _rivals_ahead(images, class_texts, labels).cpu()
    labels = labels.cpu()
    right = (ahead == 0).double()
    return {
        "zeroshot/top1": Outcomes(right),
        "zeroshot/top5": Outcomes((ahead < 5).double()),
        "zeroshot/mean_per_class_recall": Outcomes(right, classes=labels),
    }


def probe_with_selection(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> Tensor:
    """A linear probe whose regularization is chosen on a held-out fifth of the training features.

    As in Radford et al. 2021, appendix A.3: logistic regression by L-BFGS, the C with the best held-out accuracy (of
    equals the smallest), then fitted again on everything. C is one of 0.1, 1, …, 10,000. Each fit starts from nothing
    and runs until scikit-learn calls it converged; a warning is logged if it never does.

    Args:
        train_x: Shape (n, d), L2-normalized.
        train_y: Shape (n,).
        test_x: Shape (m, d), L2-normalized.
        test_y: Shape (m,).

    Returns:
        Shape (m,), float64 on the CPU: 1 where the class is right.

    Raises:
        ValueError: The shapes do not match, or there is a single class.
    """
    x, y = train_x.float().cpu().numpy(), train_y.cpu().numpy()
    if len(x) != len(y):
        raise ValueError(f"inconsistent numbers of samples: {len(x)} and {len(y)}")
    chosen_by, rest = held_out(len(y))
    # Never from the solution for another C: there the gradient is within the tolerance, and a large C never tried.
    accuracy = {c: _fitted(c, x[rest], y[rest]).score(x[chosen_by], y[chosen_by]) for c in _CS}
    final = _fitted(max(_CS, key=lambda c: accuracy[c]), x, y)
    guess = final.predict(test_x.float().cpu().numpy())
    return torch.from_numpy(guess == test_y.cpu().numpy()).double()


def knn_accuracy(
    train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """K nearest neighbors by cosine, each with a vote of exp(cosine / temperature) (Wu et al. 2018, section 3.4).

    All that tie with the k-th, to within rounding, vote (as with ``use.all`` of R's ``class::knn``): the order of the
    training images decides nothing. A tie of votes counts as wrong.

    Args:
        train_x: Shape (n, d), L2-normalized.
        train_y: Shape (n,).
        test_x: Shape (m, d), L2-normalized.
        test_y: Shape (m,).
        k: Neighbors that vote; all where there are fewer.
        temperature: Temperature of the votes.

    Returns:
        Shape (m,), float64 on the CPU: 1 where the label has more votes than any other class.

    Raises:
        ValueError: The shapes do not match.
    """
    if len(train_x) != len(train_y) or len(test_x) != len(test_y) or train_x.shape[1:] != test_x.shape[1:]:
        shapes = [tuple(part.shape) for part in (train_x, train_y, test_x, test_y)]
        raise ValueError(f"expected train (n, d), (n,) and test (m, d), (m,), got {shapes}")
    classes = int(torch.cat([train_y, test_y]).max()) + 1
    tie = rounding(train_x)
    right = []
    for start in range(0, len(test_x), _KNN_BLOCK):
        images, labels = test_x[start : start + _KNN_BLOCK], test_y[start : start + _KNN_BLOCK]
        cosine = images @ train_x.T
        least = cosine.topk(min(k, len(train_x)), dim=1).values[:, -1:] - tie
        row, neighbor = (cosine >= least).nonzero(as_tuple=True)
        weight = ((cosine[row, neighbor].double() - 1) / temperature).exp()  # -1: exp stays finite
        votes = torch.zeros(len(images), classes, dtype=weight.dtype, device=weight.device)
        votes.index_put_((row, train_y[neighbor]), weight, accumulate=True)
        own = votes.gather(1, labels[:, None])
        rivals = votes.scatter(1, labels[:, None], 0.0).max(dim=1, keepdim=True).values
        # Cosines that tie differ by `tie`, and so votes by this factor.
        right.append((own > rivals * math.exp(2 * tie / temperature))[:, 0])
    return torch.cat(right).double().cpu()


def _rivals_ahead(images: Tensor, class_texts: Tensor, labels: Tensor) -> Tensor:
    """How many other classes are at least as near to each image as its own."""
    if images.shape[1:] != class_texts.shape[1:] or labels.shape != images.shape[:1]:
        shapes = tuple(images.shape), tuple(class_texts.shape), tuple(labels.shape)
        raise ValueError(f"expected images (n, d), class_texts (c, d) and labels (n,), got {shapes}")
    cosine = images @ class_texts.T
    return (cosine >= cosine.gather(1, labels[:, None]) - rounding(images)).sum(1) - 1


def _fitted(c: float, x: Any, y: Any) -> Any:
    """scikit-learn's logistic regression, fitted from nothing."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # logged below, with its C
        model.fit(x, y)
    if int(model.n_iter_.max()) >= _STEPS:
        _log.warning("a linear probe (C = %g) has not converged in %d steps; its accuracy may be too low", c, _STEPS)
    return model

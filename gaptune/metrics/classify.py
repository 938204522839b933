"""Classification with frozen features: zero-shot by class prompts, linear probes, and nearest neighbors.

The plain names (``zero_shot``, ``linear_probe``) are what every trial reports after an epoch. Those below them are for
benchmarks: they return a value per image, whose mean is the score, so that an interval can be had too.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gaptune.data.tasks import held_out

_PROBE_C = 100.0
"""Inverse regularization of the probe: features of length 1 need weights far from 0 to tell classes apart."""
_CS = tuple(10.0**power for power in range(-1, 5))
_KNN_BLOCK = 1024


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


def zero_shot(images: Tensor, class_texts: Tensor, labels: Tensor) -> float:
    """Share of images whose nearest class embedding is their label's; a tie with another class counts as wrong.

    Args:
        images: Shape (n, d), L2-normalized.
        class_texts: Shape (classes, d), L2-normalized.
        labels: Shape (n,).

    Raises:
        ValueError: The shapes do not match.
    """
    return float((_rivals_ahead(images, class_texts, labels) == 0).double().mean())


def linear_probe(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> float:
    """Test accuracy of a multinomial logistic regression on frozen image features (scikit-learn, L-BFGS).

    Args:
        train_x: Shape (n, d), L2-normalized.
        train_y: Shape (n,).
        test_x: Shape (m, d), L2-normalized.
        test_y: Shape (m,).

    Raises:
        ValueError: The shapes do not match, or there is a single class.
    """
    model = _logistic_regression(C=_PROBE_C, max_iter=200)
    _fit(model, train_x.float().cpu().numpy(), train_y.cpu().numpy())
    return float(model.score(test_x.float().cpu().numpy(), test_y.cpu().numpy()))


def zero_shot_topk(images: Tensor, class_texts: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Zero-shot scores as clip_benchmark's ``acc1``, ``acc5`` and ``mean_per_class_recall``, image by image.

    A tie with another class counts as wrong (there it is decided by the order of the classes).

    Args:
        images: Shape (n, d), L2-normalized.
        class_texts: Shape (classes, d), L2-normalized.
        labels: Shape (n,).

    Returns:
        ``zeroshot_top1``, ``zeroshot_top5`` (all right where there are five classes or fewer) and
        ``zeroshot_mean_recall``: each of shape (n,), float64 on the CPU, with the score as its mean. For the mean
        recall an image that is right counts n / (classes present · images of its class).

    Raises:
        ValueError: The shapes do not match.
    """
    ahead = _rivals_ahead(images, class_texts, labels).cpu()
    labels = labels.cpu()
    right = (ahead == 0).double()
    count = torch.bincount(labels, minlength=len(class_texts)).double()
    return {
        "zeroshot_top1": right,
        "zeroshot_top5": (ahead < 5).double(),
        "zeroshot_mean_recall": right * len(labels) / (count.count_nonzero() * count[labels]),
    }


def probe_with_selection(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> Tensor:
    """A linear probe whose regularization is chosen on a held-out fifth of the training features.

    As in Radford et al. 2021, appendix A.3: logistic regression by at most 1000 steps of L-BFGS, the C with the best
    held-out accuracy (of equals the smallest), then fitted again on everything. C is one of 0.1, 1, …, 10,000.

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
    model = _logistic_regression(max_iter=1000, warm_start=True)  # from each C to the next, which is near
    accuracy = {}
    for c in _CS:
        _fit(model.set_params(C=c), x[rest], y[rest])
        accuracy[c] = model.score(x[chosen_by], y[chosen_by])
    final = _logistic_regression(C=max(_CS, key=lambda c: accuracy[c]), max_iter=1000)
    _fit(final, x, y)
    guess = final.predict(test_x.float().cpu().numpy())
    return torch.from_numpy(guess == test_y.cpu().numpy()).double()


def knn_accuracy(
    train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """K nearest neighbors by cosine, each with a vote of exp(cosine / temperature) (Wu et al. 2018, section 3.4).

    Args:
        train_x: Shape (n, d), L2-normalized.
        train_y: Shape (n,).
        test_x: Shape (m, d), L2-normalized.
        test_y: Shape (m,).
        k: Neighbors that vote; all where there are fewer.
        temperature: Of the votes.

    Returns:
        Shape (m,), float64 on the CPU: 1 where the class with most votes is the label.

    Raises:
        ValueError: The shapes do not match.
    """
    if len(train_x) != len(train_y) or len(test_x) != len(test_y) or train_x.shape[1:] != test_x.shape[1:]:
        shapes = [tuple(part.shape) for part in (train_x, train_y, test_x, test_y)]
        raise ValueError(f"expected train (n, d), (n,) and test (m, d), (m,), got {shapes}")
    classes = int(torch.cat([train_y, test_y]).max()) + 1
    right = []
    for start in range(0, len(test_x), _KNN_BLOCK):
        images, labels = test_x[start : start + _KNN_BLOCK], test_y[start : start + _KNN_BLOCK]
        cosine, neighbors = (images @ train_x.T).topk(min(k, len(train_x)), dim=1)
        votes = torch.zeros(len(images), classes, dtype=cosine.dtype, device=cosine.device)
        votes.scatter_add_(1, train_y[neighbors], ((cosine - 1) / temperature).exp())  # -1: exp stays finite
        right.append(votes.argmax(1) == labels)
    return torch.cat(right).double().cpu()


def _rivals_ahead(images: Tensor, class_texts: Tensor, labels: Tensor) -> Tensor:
    """How many other classes are at least as near to each image as its own."""
    if images.shape[1:] != class_texts.shape[1:] or labels.shape != images.shape[:1]:
        shapes = tuple(images.shape), tuple(class_texts.shape), tuple(labels.shape)
        raise ValueError(f"expected images (n, d), class_texts (c, d) and labels (n,), got {shapes}")
    cosine = images @ class_texts.T
    return (cosine >= cosine.gather(1, labels[:, None])).sum(1) - 1


def _logistic_regression(**settings: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**settings)


def _fit(model: Any, x: Any, y: Any) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its number of steps is part of a probe's definition
        model.fit(x, y)

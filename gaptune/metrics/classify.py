"""Classification with frozen features: zero-shot by class prompts, and a linear probe."""

from __future__ import annotations

import warnings

import torch.nn.functional as F
from torch import Tensor

_PROBE_C = 100.0
"""Inverse regularization of the probe: features of length 1 need weights far from 0 to tell classes apart."""


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
    if images.shape[1:] != class_texts.shape[1:] or labels.shape != images.shape[:1]:
        shapes = tuple(images.shape), tuple(class_texts.shape), tuple(labels.shape)
        raise ValueError(f"expected images (n, d), class_texts (c, d) and labels (n,), got {shapes}")
    cosine = images @ class_texts.T
    right = cosine.gather(1, labels[:, None])
    return float(((cosine >= right).sum(1) == 1).double().mean())


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
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_PROBE_C, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are the probe's definition, converged or not
        model.fit(train_x.float().cpu().numpy(), train_y.cpu().numpy())
    return float(model.score(test_x.float().cpu().numpy(), test_y.cpu().numpy()))

"""CLIP's tokenizer as numpy arrays, with the ids of words remembered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

START, END = 49406, 49407
"""Ids of the start and end token; the end token is the highest id, which is how the text tower finds it."""


def encode(text: str) -> list[int]:
    """Ids of a text without start, end and padding."""
    # Word by word is the same only where cleaning (ftfy, HTML entities) cannot look across words.
    if text.isascii() and text.isprintable() and "&" not in text:
        return [token for word in text.split() for token in _word(word)]
    return list(_tokenizer().encode(text))


def tokenize(texts: Sequence[str], context_length: int) -> npt.NDArray[np.uint16]:
    """Tokenizes texts as open_clip's ``SimpleTokenizer`` does.

    Args:
        texts: n texts.
        context_length: Ids per text, start and end included; a longer text is cut and still ends with the
            end token.

    Returns:
        Shape (n, context_length), padded with 0.
    """
    rows = np.zeros((len(texts), context_length), dtype=np.uint16)
    for row, text in zip(rows, texts, strict=True):
        ids = [START, *encode(text)[: context_length - 2], END]
        row[: len(ids)] = ids
    return rows


def shorten(tokens: npt.NDArray[np.uint16], context_length: int) -> npt.NDArray[np.uint16]:
    """Tokens as ``tokenize`` gives them for a shorter context; what is short enough stays as it is."""
    if tokens.shape[1] <= context_length:
        return tokens
    short = tokens[:, :context_length].copy()
    short[short[:, -1] != 0, -1] = END
    return short


@cache
def _tokenizer():  # type: ignore[no-untyped-def]  # open_clip is untyped
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@cache
def _word(word: str) -> tuple[int, ...]:
    return tuple(_tokenizer().encode(word))

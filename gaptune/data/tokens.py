"""CLIP's tokenizer as numpy arrays, with the ids of words remembered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

START, END = 49406, 49407
"""Ids of the start and end token; the end token is the highest id, which is how the text tower finds it."""


_LONG = 200  # characters of a word that is not worth remembering, and may take long
_SPARE = 32  # ids behind a cut that must be there, so that those before it are the same without the cut


def encode(text: str, most: int | None = None) -> list[int]:
    """Ids of a text without start, end and padding.

    Args:
        text: The text.
        most: Largest number of ids; the rest of the text is not encoded, however long it is.
    """
    # Word by word is the same only where cleaning (ftfy, HTML entities) cannot look across words.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        return _ids(_tokenizer().clean_fn(text), most)
    ids: list[int] = []
    for word in text.split():
        if most is not None and len(ids) >= most:
            break
        ids += _word(word) if len(word) <= _LONG else _ids(word.lower(), None if most is None else most - len(ids))
    return ids[:most]


def tokenize(texts: Sequence[str], context_length: int) -> npt.NDArray[np.uint16]:
    """Tokenizes texts as open_clip's ``SimpleTokenizer`` does.

    Args:
        texts: n texts.
        context_length: Ids per text, start and end included; a longer text is cut and still ends with the
            end token.

    Returns:
        Shape (n, context_length), padded with 0.
    """
    return padded([encode(text, context_length - 2) for text in texts], context_length)


def padded(encoded: Sequence[Sequence[int]], context_length: int) -> npt.NDArray[np.uint16]:
    """Texts by their ids, as ``encode`` gives them, as rows of one length; see ``tokenize``."""
    rows = np.zeros((len(encoded), context_length), dtype=np.uint16)
    for row, own in zip(rows, encoded, strict=True):
        ids = [START, *own[: context_length - 2], END]
        row[: len(ids)] = ids
    return rows


@cache
def _tokenizer():  # type: ignore[no-untyped-def]  # open_clip is untyped
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@cache
def _word(word: str) -> tuple[int, ...]:
    return tuple(_tokenizer().encode(word))


def _ids(text: str, most: int | None) -> list[int]:
    """Ids of a cleaned text, as ``SimpleTokenizer.encode`` gives them, but no more than are wanted."""
    tokenizer = _tokenizer()
    ids: list[int] = []
    for found in tokenizer.pat.finditer(text):
        if most is not None and len(ids) >= most:
            break
        coded = "".join(tokenizer.byte_encoder[byte] for byte in found.group().encode())
        ids += _begun(coded, None if most is None else most - len(ids))
    return ids[:most]


def _begun(coded: str, most: int | None) -> list[int]:
    """Ids of a word, of which only a beginning is merged: the time grows with the square of the length."""
    tokenizer = _tokenizer()
    length = len(coded) if most is None else 3 * (most + _SPARE)
    while True:
        ids = [tokenizer.encoder[part] for part in tokenizer.bpe(coded[:length]).split(" ")]
        if length >= len(coded) or (most is not None and len(ids) >= most + _SPARE):
            return ids
        length *= 2

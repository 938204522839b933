"""Columns of a split's file: pixels and token ids as bytes, features as arrays of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

FEATURE_DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class FeatureMeta:
    """The features that a store holds in place of images and tokens.

    Attributes:
        image: Numbers per image.
        text: Numbers per caption.
        dtype: ``float16`` or ``float32``.
    """

    image: int
    text: int
    dtype: str = "float16"

    def __str__(self) -> str:
        """The sizes in words."""
        return f"{self.image} numbers per image and {self.text} per caption ({self.dtype})"


def feature_meta(value: object) -> FeatureMeta | None:
    """The entry ``features`` of a ``store.json`` or checkpoint.

    Args:
        value: None or a mapping. Before format 2 it was a number: 0, or the width of the float16 features of images
            and of captions.

    Raises:
        TypeError: It is neither.
        ValueError: A size or the dtype cannot be.
    """
    if value is None or (type(value) is int and value == 0):
        return None
    features = FeatureMeta(value, value) if isinstance(value, int) else FeatureMeta(**value)  # type: ignore[arg-type]
    for name, number in (("image", features.image), ("text", features.text)):
        if type(number) is not int or number < 1:
            raise ValueError(f"features.{name} is {number!r}")
    if features.dtype not in FEATURE_DTYPES:
        raise ValueError(f"features.dtype is {features.dtype!r}")
    return features


@dataclass(frozen=True)
class Column:
    """One kind of array in a split's file.

    Attributes:
        name: Name of the column.
        shape: Shape of an array.
        dtype: NumPy's name for its numbers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of an array."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def type(self) -> pa.DataType:
        """Arrow's type: bytes for pixels and token ids, a list of fixed size for features."""
        if self.dtype in FEATURE_DTYPES:
            return pa.list_(pa.from_numpy_dtype(self.dtype), prod(self.shape))
        return pa.binary(self.nbytes)

    def to_arrow(self, array: npt.NDArray[Any]) -> bytes | npt.NDArray[Any]:
        """A copy of an array as Arrow takes it for this column."""
        return array.astype(self.dtype) if self.dtype in FEATURE_DTYPES else array.tobytes()

    def from_arrow(self, column: Any) -> npt.NDArray[Any]:
        """The arrays of a chunk of the column, shape (rows, *shape), without a copy.

        A chunk of bytes is read whatever its dtype: before format 2 features were written so.
        """
        flat = np.frombuffer(column.buffers()[-1], dtype=np.uint8)
        rows = flat[column.offset * self.nbytes : (column.offset + len(column)) * self.nbytes]
        return rows.view(self.dtype).reshape(len(column), *self.shape)

    def check(self, found: pa.DataType, what: str) -> None:
        """Compares the type in a file with what ``store.json`` says.

        Raises:
            ValueError: They differ.
        """
        if found not in (self.type, pa.binary(self.nbytes)):
            size = f"{found.byte_width} bytes" if pa.types.is_fixed_size_binary(found) else f"the type {found}"
            wanted = f"{self.nbytes} bytes" if pa.types.is_fixed_size_binary(found) else f"{self.type}"
            raise ValueError(f"its {what} have {size}, but store.json means {wanted}")


def columns_of(image_size: int, context_length: int, features: FeatureMeta | None) -> tuple[Column, Column]:
    """The columns of images and of captions in a store's files."""
    if features is not None:
        return (
            Column("image_features", (features.image,), features.dtype),
            Column("text_features", (features.text,), features.dtype),
        )
    return Column("image", (image_size, image_size, 3), "uint8"), Column("tokens", (context_length,), "uint16")

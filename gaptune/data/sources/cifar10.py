"""CIFAR-10 (Krizhevsky 2009) from the files that torchvision downloads."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from gaptune.data.sources.base import Sample, Source, existing
from gaptune.errors import UserError, first_line

FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
SIDE = 32

PROMPTS = tuple(
    f"a {kind}photo of {article} {size}{{}}."
    for article in ("a", "the")
    for kind, size in (
        ("", ""),
        ("blurry ", ""),
        ("black and white ", ""),
        ("low contrast ", ""),
        ("high contrast ", ""),
        ("bad ", ""),
        ("good ", ""),
        ("", "small "),
        ("", "big "),
    )
)
"""CLIP's templates for CIFAR-10 (Radford et al. 2021), which clip_benchmark uses too."""


class Cifar10(Source):
    """The splits ``train`` (50,000 images) and ``test`` (10,000) of ``cifar-10-batches-py``.

    The files are pickles. They are read by an unpickler that knows arrays and nothing else, so that a file from
    elsewhere cannot run code.

    Args:
        place: The folder ``cifar-10-batches-py`` or the one that holds it, or ``cifar-10-python.tar.gz`` or the folder
            that holds that.

    Raises:
        UserError: There is no CIFAR-10, or a file of it is not what it should be.
    """

    kind = "cifar10"
    splits = tuple(BATCHES)
    prompts = PROMPTS
    as_published = True

    def __init__(self, place: Path) -> None:
        found = [path for path in (place / FOLDER, place / ARCHIVE, place) if path.exists()]
        self._place = next(path for path in found)
        meta = self._read("batches.meta")
        self.classes = tuple(str(name) for name in meta.get("label_names", ()))
        if len(self.classes) != 10:
            raise UserError(f"{self._place}: batches.meta does not name ten classes")

    @classmethod
    def at(cls, place: str) -> Self:
        """The source that ``cifar10:PLACE`` means."""
        return cls(existing(place, "CIFAR-10 at"))

    def samples(self, split: str) -> Iterator[Sample]:
        """Images in the order of the files."""
        for name in BATCHES[split]:
            batch = self._read(name)
            data, labels = batch.get("data"), batch.get("labels")
            if (
                not isinstance(data, np.ndarray)
                or data.dtype != np.uint8
                or data.ndim != 2
                or data.shape[1] != 3 * SIDE * SIDE
                or not isinstance(labels, list)
                or len(labels) != len(data)
                or not all(isinstance(label, int) and 0 <= label < 10 for label in labels)
            ):
                raise UserError(f"{self._place}: {name} is not a batch of CIFAR-10")
            images = data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
            for row, label in enumerate(labels):
                yield Sample(f"{name}/{row:05d}", np.ascontiguousarray(images[row]), label=label)

    def count(self, split: str) -> int:
        """How many images a split of the published set has."""
        return 10_000 * len(BATCHES[split])

    def files(self) -> Iterable[Path]:
        """The batches, or the archive."""
        return sorted(self._place.glob("*_batch*")) if self._place.is_dir() else [self._place]

    def origin(self) -> dict[str, Any]:
        """Where it lies."""
        return {"file" if self._place.is_file() else "folder": str(self._place)}

    def _read(self, name: str) -> dict[str, Any]:
        try:
            if self._place.is_dir():
                content = (self._place / name).read_bytes()
            else:
                with tarfile.open(self._place) as archive:
                    member = archive.extractfile(f"{FOLDER}/{name}")
                    content = member.read() if member else b""
            loaded = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
        except (OSError, KeyError) as error:
            raise UserError(f"{self._place} is not CIFAR-10 (expected {FOLDER} or {ARCHIVE}): {error}") from None
        except tarfile.TarError as error:
            raise UserError(f"{self._place} is not an archive: {error}") from None
        except Exception as error:  # a pickle that is none can raise anything
            raise UserError(f"{self._place}: {name} cannot be read: {error}") from None
        if not isinstance(loaded, dict):
            raise UserError(f"{self._place}: {name} is not a file of CIFAR-10")
        return {str(key, "latin1") if isinstance(key, bytes) else key: value for key, value in loaded.items()}


class _ArraysOnly(pickle.Unpickler):
    """Loads dictionaries, lists, texts, numbers and numpy arrays, and refuses all else."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): lambda text, encoding: str(text).encode("latin1"),  # how Python 3 writes bytes
        }
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined, no-any-return]
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no file of CIFAR-10 needs")
        return known[module, name]


def download_cifar10(folder: Path) -> None:
    """Downloads CIFAR-10 into a folder by torchvision, which checks what came.

    Raises:
        UserError: It cannot be had.
    """
    from torchvision.datasets import CIFAR10

    try:
        CIFAR10(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot download CIFAR-10 into {folder}: {first_line(error)}") from None

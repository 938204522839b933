"""The code with which MLflow embeds by a registered model; one file, stored with the weights.

An exported CLIP embeds images and texts. Exported heads embed features, and where the towers of these are known, images
and texts, too.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from PIL import Image, UnidentifiedImageError
from torch import Tensor

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # no format that runs a program, as EPS does
_DEEP = ("I", "F")  # modes of more than eight bits a color, which a conversion to RGB would clip
_EXPECTED = {"text": "a text", "image": "an image file in base64"}
_MODALITIES = ("image", "text")

Columns = dict[str, Callable[[Any], Tensor]]
"""What embeds a column, by the column's name."""


class Embedder(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """Embeds by an exported CLIP, or by exported heads."""

    def load_context(self, context: Any) -> None:
        """Loads the weights."""
        place = Path(context.artifacts["model"])
        self._columns = _heads(place) if (place / "heads.json").exists() else _clip(place)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Embeds columns, each to ``text_embedding`` or ``image_embedding``.

        ``text`` has texts, ``image`` files in base64, or data URLs of them. ``text_features`` and ``image_features``,
        for heads, have a list of numbers in each cell.

        Raises:
            MlflowException: There is no such column, two of one modality, or a cell that cannot be embedded.
        """
        table = _unpacked(model_input, list(self._columns))
        with torch.no_grad():
            found = {
                f"{name.removesuffix('_features')}_embedding": embed(table[name]).tolist()
                for name, embed in self._columns.items()
                if name in table
            }
        return pd.DataFrame(found, index=table.index)


def _clip(place: Path) -> Columns:
    """The columns that an exported CLIP takes."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{place}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{place}")

    def texts(cells: pd.Series[Any]) -> Any:
        return model.encode_text(tokenizer(_texts(cells)), normalize=True)

    def images(cells: pd.Series[Any]) -> Any:
        return model.encode_image(torch.stack([preprocess(image) for image in _images(cells)]), normalize=True)

    return {"text": texts, "image": images}


def _heads(place: Path) -> Columns:
    """The columns that exported heads take: features, and what their towers take where these are known."""
    from safetensors.torch import load_file

    heads = json.loads((place / "heads.json").read_text(encoding="utf-8"))
    weights = load_file(place / "heads.safetensors")
    columns: Columns = {}
    for modality, about in heads["features"].items():
        head = _Head(heads, weights, modality)
        columns[f"{modality}_features"] = partial(_embed_features, head, about["width"])
        if modality in heads["inputs"]:
            tower = _Tower(about["tower"], modality, heads["store"]["image_size"])
            columns[modality] = partial(_embed_by_tower, head, tower)
    return columns


def _embed_features(head: _Head, width: int, cells: pd.Series[Any]) -> Tensor:
    return head(_numbers(cells, width))


def _embed_by_tower(head: _Head, tower: _Tower, cells: pd.Series[Any]) -> Tensor:
    return head(tower(cells))


class _Head:
    """Embeds features of one modality."""

    def __init__(self, heads: dict[str, Any], weights: dict[str, Tensor], modality: str) -> None:
        self._heads = heads
        self._weights = {
            name.removeprefix(f"{modality}."): weight
            for name, weight in weights.items()
            if name.startswith(f"{modality}.")
        }

    def __call__(self, features: Tensor) -> Tensor:
        """Embeddings of features, float32 of shape (n, d)."""
        kind = self._heads["head"]
        x = F.normalize(features) if self._heads["treatment"]["normalize"] else features
        x = x - self._weights.get("mean", 0)
        x = F.normalize(x) * x.shape[1] ** 0.5 if self._heads["normalize"] else x
        y = torch.zeros(())
        if kind != "mlp":
            y = y + self._layer(x, "linear")
        if kind != "linear":
            y = y + self._layer(F.gelu(self._layer(x, "hidden")), "output")
        return F.normalize(y)

    def _layer(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"))


class _Tower:
    """Computes features of images or texts by a tower of gaptune, which is opened when it is first used."""

    def __init__(self, about: dict[str, Any], modality: Any, side: int) -> None:
        self._about = about
        self._modality = modality
        self._side = side
        self._opened: Any = None

    def __call__(self, cells: pd.Series[Any]) -> Tensor:
        """Features of cells, as a store holds them: in float16, on which the heads were trained."""
        inputs: Any = _texts(cells) if self._modality == "text" else _images(cells)
        if self._opened is None:
            self._opened = _open_tower(self._about, self._modality)
        if self._modality == "image":
            from gaptune.data.pixels import square

            inputs = np.stack([square(image, self._side) for image in inputs])
        return torch.from_numpy(self._opened.encode(inputs)).half().float()


def _open_tower(about: dict[str, Any], modality: Any) -> Any:
    """The tower of the features that the heads were trained on.

    Raises:
        MlflowException: It cannot be opened, or has other weights.
    """
    name = about["tower"]
    try:
        from gaptune.errors import UserError
        from gaptune.towers import open_tower
    except ImportError:
        raise MlflowException(f"`{modality}` needs the package gaptune, for the tower {name}") from None
    try:
        tower = open_tower(name, modality)
    except UserError as error:
        raise MlflowException(str(error)) from None
    if tower.weights_hash != about["weights"]:
        raise MlflowException(f"the {modality} tower {name} has other weights here than in training")
    return tower


def _unpacked(table: pd.DataFrame, known: list[str]) -> pd.DataFrame:
    """The columns that are used. MLflow passes a dict of lists as one row of lists, which become columns here."""
    table = table[[name for name in known if name in table]]
    if len(table) == 1 and all(_is_column(str(name), cell) for name, cell in table.iloc[0].items()):
        columns = dict(table.iloc[0])
        if len({len(column) for column in columns.values()}) > 1:
            raise MlflowException.invalid_parameter_value(f"{_listed(list(columns), 'and')} differ in length")
        table = pd.DataFrame({name: pd.Series(list(column), dtype=object) for name, column in columns.items()})
    if table.empty:
        raise MlflowException.invalid_parameter_value(f"expected a column {_listed(known, 'or')}, with rows")
    for modality in _MODALITIES:
        if {modality, f"{modality}_features"} <= set(table):
            raise MlflowException.invalid_parameter_value(f"expected `{modality}` or `{modality}_features`, got both")
    return table


def _is_column(name: str, cell: Any) -> bool:
    """Whether a cell holds all cells of a column; a cell of features is a list itself."""
    if not isinstance(cell, list):
        return False
    return not name.endswith("_features") or any(isinstance(each, list | np.ndarray) for each in cell)


def _listed(names: list[str], word: str) -> str:
    return f" {word} ".join(f"`{name}`" for name in names)


def _numbers(cells: pd.Series, width: int) -> Tensor:
    """Features, float32 of shape (n, width)."""
    expected, rows = f"{width} finite numbers", []
    for row, cell in cells.items():
        if not isinstance(cell, list | tuple | np.ndarray):
            raise _refused(row, str(cells.name), _kind(cell), expected)
        try:
            with np.errstate(over="ignore"):
                numbers = np.asarray(cell, dtype=np.float32)
        except (ValueError, TypeError):
            raise _refused(row, str(cells.name), "a list of something else", expected) from None
        if numbers.shape != (width,):
            raise _refused(row, str(cells.name), " x ".join(map(str, numbers.shape)) or "none", expected)
        if not np.isfinite(numbers).all():
            raise _refused(row, str(cells.name), "numbers that are not finite", expected)
        rows.append(numbers)
    return torch.from_numpy(np.stack(rows))


def _texts(cells: pd.Series[Any]) -> list[str]:
    return [_text(cell, row, "text") for row, cell in cells.items()]


def _images(cells: pd.Series[Any]) -> list[Image.Image]:
    return [_image(_text(cell, row, "image"), row) for row, cell in cells.items()]


def _text(cell: Any, row: Any, column: str) -> str:
    if isinstance(cell, str):
        return cell
    raise _refused(row, column, _kind(cell))


def _kind(cell: Any) -> str:
    nothing = cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))
    return "nothing" if nothing else type(cell).__name__


def _image(given: str, row: Any) -> Image.Image:
    """The image in a file in base64, or in a data URL."""
    content = given.partition(";base64,")[2] if given.startswith("data:") else given
    named = repr(given[:40]) + ("..." if len(given) > 40 else "")
    try:
        file = base64.b64decode("".join(content.split()), validate=True)
    except ValueError:
        raise _refused(row, "image", f"{named}, which is not base64") from None
    try:
        with Image.open(io.BytesIO(file), formats=_FORMATS) as image:
            image.load()
            if not image.mode.startswith(_DEEP):
                return image.convert("RGB")
            why = f"has more than eight bits a color ({image.mode})"
    except UnidentifiedImageError:
        why = "is no image of a known format"
    except Exception as error:  # decoders raise errors of any kind
        why = f"cannot be read: {error}"
    raise _refused(row, "image", f"{named}, which {why}")


def _refused(row: Any, column: str, found: str, expected: str | None = None) -> MlflowException:
    why = f"row {row} of `{column}`: expected {expected or _EXPECTED[column]}, got {found}"
    return MlflowException(why, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(Embedder())

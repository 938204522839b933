"""The code with which MLflow embeds images and texts by a registered model; one file, stored with the weights."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import mlflow
import open_clip
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from PIL import Image, UnidentifiedImageError

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # no format that runs a program, as EPS does
_DEEP = ("I", "F")  # modes of more than eight bits a color, which a conversion to RGB would clip
_EXPECTED = {"text": "a text", "image": "an image file in base64"}


class Embedder(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """Embeds texts and images by an exported CLIP."""

    def load_context(self, context: Any) -> None:
        """Loads the weights."""
        place = f"local-dir:{context.artifacts['model']}"
        self._model, _, self._preprocess = open_clip.create_model_and_transforms(place)
        self._model.eval()
        self._tokenizer = open_clip.get_tokenizer(place)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Embeds a column ``text``, a column ``image`` (files in base64, or data URLs of them), or both.

        Raises:
            MlflowException: Neither column exists, or a cell is not a text or not an image.
        """
        table = _unpacked(model_input)
        found = {}
        with torch.no_grad():
            if "text" in table:
                tokens = self._tokenizer([_text(cell, row, "text") for row, cell in table["text"].items()])
                found["text_embedding"] = self._model.encode_text(tokens, normalize=True).tolist()
            if "image" in table:
                images = [_image(_text(cell, row, "image"), row) for row, cell in table["image"].items()]
                pixels = torch.stack([self._preprocess(image) for image in images])
                found["image_embedding"] = self._model.encode_image(pixels, normalize=True).tolist()
        return pd.DataFrame(found, index=table.index)


def _unpacked(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that are used. MLflow passes a dict of lists as one row of lists, which become columns here."""
    table = table[[name for name in _EXPECTED if name in table]]
    if len(table) == 1 and all(isinstance(cell, list) for cell in table.iloc[0]):
        columns = dict(table.iloc[0])
        if len({len(column) for column in columns.values()}) > 1:
            raise MlflowException.invalid_parameter_value("`text` and `image` differ in length")
        table = pd.DataFrame(columns, dtype=object)
    if table.empty:
        raise MlflowException.invalid_parameter_value("expected a column `text`, a column `image`, or both, with rows")
    return table


def _text(cell: Any, row: Any, column: str) -> str:
    if isinstance(cell, str):
        return cell
    nothing = cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))
    raise _refused(row, column, "nothing" if nothing else type(cell).__name__)


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


def _refused(row: Any, column: str, found: str) -> MlflowException:
    why = f"row {row} of `{column}`: expected {_EXPECTED[column]}, got {found}"
    return MlflowException(why, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(Embedder())

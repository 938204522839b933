"""What MLflow runs to embed images and texts with a registered model; a file by itself, kept with the weights."""

from __future__ import annotations

import base64
import io
from typing import Any

import mlflow
import open_clip
import pandas as pd
import torch
from PIL import Image


class Embedder(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """Embeds texts and images by an exported CLIP."""

    def load_context(self, context: Any) -> None:
        """Loads the weights."""
        place = f"local-dir:{context.artifacts['model']}"
        self._model, _, self._preprocess = open_clip.create_model_and_transforms(place)
        self._model.eval()
        self._tokenizer = open_clip.get_tokenizer(place)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Embeds a column ``text``, a column ``image`` (files in base64), or both."""
        found = {}
        with torch.no_grad():
            if "text" in model_input:
                tokens = self._tokenizer(list(model_input["text"]))
                found["text_embedding"] = self._model.encode_text(tokens, normalize=True).tolist()
            if "image" in model_input:
                files = [Image.open(io.BytesIO(base64.b64decode(image))) for image in model_input["image"]]
                pixels = torch.stack([self._preprocess(file.convert("RGB")) for file in files])
                found["image_embedding"] = self._model.encode_image(pixels, normalize=True).tolist()
        if not found:
            raise ValueError(f"expected a column `text` or `image`, got {', '.join(map(str, model_input.columns))}")
        return pd.DataFrame(found, index=model_input.index)


mlflow.models.set_model(Embedder())

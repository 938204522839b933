"""Names of the trainable models: those of open_clip, and small presets. Does not import torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from gaptune.config import HEADS, ModelConfig
from gaptune.errors import UserError, did_you_mean

PRESETS: dict[str, dict[str, Any]] = {
    "scenes-tiny": {  # 0.8 million parameters: about 1 ms per pair on one core
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": (1, 1, 1, 1), "width": 12, "head_width": 32},
        "text_cfg": {"width": 64, "heads": 2, "layers": 1},
    },
    "photos-small": {  # for thousands of photos on a few cores: about 3.3 ms per pair on one core
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "layers": (1, 1, 1, 1), "width": 16, "head_width": 32},
        "text_cfg": {"width": 96, "heads": 3, "layers": 1},
    },
}


CLIP_VOCABULARY = 49_408
"""Number of rows of the token table for CLIP's tokenizer."""

_REST = {
    "scenes-tiny": 808_719,
    "photos-small": 1_486_521,
}  # number of weights of a preset without its token and position embeddings


def check_model(model: ModelConfig) -> None:
    """Refuses an unknown model.

    Raises:
        UserError: The model is unknown. The message suggests the nearest name.
    """
    known = known_models()
    if model.name not in known:
        raise UserError(
            f"unknown model {model.name!r}{did_you_mean(model.name, known)}; presets: {', '.join([*PRESETS, HEADS])}"
        )


def preset_weights(model: ModelConfig, vocabulary: int, context_length: int) -> int:
    """Computes the number of weights of a preset at its default image size, without building the model.

    Args:
        model: Preset.
        vocabulary: Number of tokens in the data.
        context_length: Number of tokens per caption.
    """
    rows = CLIP_VOCABULARY if model.vocabulary == "full" else vocabulary + 1
    return _REST[model.name] + (rows + context_length) * int(PRESETS[model.name]["text_cfg"]["width"])


def known_models() -> list[str]:
    """Returns the names of the presets and of the models with an open_clip configuration."""
    package = importlib.util.find_spec("open_clip")
    folders = [Path(place) for place in (package.submodule_search_locations or [])] if package else []
    return [
        *PRESETS,
        HEADS,
        *sorted(file.stem for folder in folders for file in (folder / "model_configs").glob("*.json")),
    ]

"""The models that can be trained: open_clip's by name, and small presets. Known by name without loading torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from gaptune.config import ModelConfig
from gaptune.errors import UserError, did_you_mean

PRESETS: dict[str, dict[str, Any]] = {
    "scenes-tiny": {  # 0.8 million parameters: about 1 ms a pair on one core
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": (1, 1, 1, 1), "width": 12, "head_width": 32},
        "text_cfg": {"width": 64, "heads": 2, "layers": 1},
    },
    "photos-small": {  # for thousands of photographs on a few cores: about 3.3 ms a pair on one
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "layers": (1, 1, 1, 1), "width": 16, "head_width": 32},
        "text_cfg": {"width": 96, "heads": 3, "layers": 1},
    },
}


CLIP_VOCABULARY = 49_408
"""Rows of the token table that CLIP's tokenizer needs."""

_REST = {"scenes-tiny": 808_719, "photos-small": 1_486_521}  # weights of a preset but for its tokens and positions

HEADS = "linear-heads"
"""The model that trains on a store of features: one linear projection for each modality."""


def check_model(model: ModelConfig) -> None:
    """Refuses a model that nobody knows.

    Raises:
        UserError: With the nearest name.
    """
    known = known_models()
    if model.name not in known:
        raise UserError(
            f"unknown model {model.name!r}{did_you_mean(model.name, known)}; presets: {', '.join([*PRESETS, HEADS])}"
        )


def preset_weights(model: ModelConfig, vocabulary: int, context_length: int) -> int:
    """How many weights a preset has at its own image size, known without building it.

    Args:
        model: The preset.
        vocabulary: Tokens that the data use.
        context_length: Tokens per caption.
    """
    rows = CLIP_VOCABULARY if model.vocabulary == "full" else vocabulary + 1
    return _REST[model.name] + (rows + context_length) * int(PRESETS[model.name]["text_cfg"]["width"])


def known_models() -> list[str]:
    """The presets, and the models that open_clip has a configuration for."""
    package = importlib.util.find_spec("open_clip")
    folders = [Path(place) for place in (package.submodule_search_locations or [])] if package else []
    return [
        *PRESETS,
        HEADS,
        *sorted(file.stem for folder in folders for file in (folder / "model_configs").glob("*.json")),
    ]

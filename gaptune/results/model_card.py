"""The model card of an exported trial."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING, Any

from gaptune.config import HEADS
from gaptune.text.markup import for_markdown, markdown_code, markdown_row

if TYPE_CHECKING:
    from gaptune.ledger import SweepRecord, TrialRecord

_CLIP = """---
library_name: open_clip
tags: [clip, zero-shot-image-classification]
---"""

_HEADS = """---
tags: [clip, feature-extraction]
---"""

_OPEN_CLIP = """import open_clip
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
"""

LOADER = '''import json
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file

heads = json.loads(Path("FOLDER/heads.json").read_text())
weights = load_file("FOLDER/heads.safetensors")


def embed(features, modality):
    """Embeddings of a tower's features, float32 of shape (n, d); the modality is "image" or "text"."""

    def layer(x, name):
        return F.linear(x, weights[f"{modality}.{name}.weight"], weights.get(f"{modality}.{name}.bias"))

    x = F.normalize(features) if heads["treatment"]["normalize"] else features
    x = x - weights.get(f"{modality}.mean", 0)
    x = F.normalize(x) * x.shape[1] ** 0.5 if heads["normalize"] else x
    linear = 0 if heads["head"] == "mlp" else layer(x, "linear")
    mlp = 0 if heads["head"] == "linear" else layer(F.gelu(layer(x, "hidden")), "output")
    return F.normalize(linear + mlp)
'''
"""Loads exported heads without gaptune; the guide on models has it, too."""


def model_card(record: SweepRecord, trial: TrialRecord, metrics: dict[str, Any], *, epoch: int) -> str:
    """The model card: what it is, how it was made, how good it is."""
    header = record.header
    params = "\n".join(
        markdown_row(markdown_code(name), for_markdown(str(value))) for name, value in trial.config.items()
    )
    measured = "\n".join(
        markdown_row(for_markdown(name), f"{value:.4f}")
        for name, value in metrics.items()
        if not name.startswith("time/")
    )
    versions = ", ".join(f"{name} {version}" for name, version in header.versions.items())
    heads = trial.config.get("model.name") == HEADS
    what = "Two heads on the features of frozen towers," if heads else "A CLIP"
    scale = "heads.json has 1/τ as `logit_scale`" if heads else "which\n`logit_scale` holds as log(1/τ)"
    return f"""{_HEADS if heads else _CLIP}
# {for_markdown(record.name)}, trial {trial.number}: {for_markdown(trial.method)}

{what} trained by gaptune for {epoch} of {trial.epochs} epochs; τ = {metrics["temperature/tau"]:.4g}, {scale}.

{indent(LOADER if heads else _OPEN_CLIP, "    ")}
Data: {for_markdown(header.data.name)}, SHA-256 `{header.data.hash}`.
Made with {markdown_code(header.command)} ({versions}).

| metric | value |
|---|---|
{measured}

| parameter | value |
|---|---|
{params}
"""

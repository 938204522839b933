"""The model card of an exported trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gaptune.text.markup import for_markdown, markdown_code, markdown_row

if TYPE_CHECKING:
    from gaptune.ledger import SweepRecord, TrialRecord


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
    return f"""---
library_name: open_clip
tags: [clip, zero-shot-image-classification]
---
# {for_markdown(record.name)}, trial {trial.number}: {for_markdown(trial.method)}

A CLIP trained by gaptune for {epoch} of {trial.epochs} epochs; τ = {metrics["temperature/tau"]:.4g}, which
`logit_scale` holds as log(1/τ).

    import open_clip
    model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
    tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")

Data: {for_markdown(header.data.name)}, SHA-256 `{header.data.hash}`.
Made with {markdown_code(header.command)} ({versions}).

| metric | value |
|---|---|
{measured}

| parameter | value |
|---|---|
{params}
"""

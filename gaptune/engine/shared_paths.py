"""Paths in the config of a sweep that runs on several machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gaptune.config import TrialConfig
from gaptune.errors import UserError
from gaptune.storage.folder import is_url


def check_full_paths(config: TrialConfig, place: str) -> None:
    """Refuses relative paths: the workers of other machines run in directories of their own.

    Args:
        config: What all trials have in common.
        place: Where they run, as text.

    Raises:
        UserError: A path is relative.
    """
    for key, reference in _references(config):
        front, colon, back = _parts(reference)
        path = Path(back)
        if reference == "scenes" or is_url(reference) or path.is_absolute():
            continue
        full = f"{front}{colon}{path.absolute()}"
        raise UserError(
            f"{key}: {reference} is a relative path, and the machines of {place} do not all have this directory; "
            f"write {full} if they all see it there, or a URL such as s3://BUCKET/{path.name}"
        )


def _parts(reference: str) -> tuple[str, str, str]:
    """The kind of a data set, a colon, and its path; of anything else its path."""
    kind, colon, path = reference.partition(":")
    return ("", "", reference) if not colon or Path(reference).exists() else (kind, colon, path)


def _references(config: TrialConfig) -> Iterator[tuple[str, str]]:
    """What is read on every machine, by its key in the sweep config."""
    yield "data.store", config.data.store
    for name in config.data.mix or ():
        yield "data.mix", name
    for evaluation in config.evaluate:
        yield f"evaluate {evaluation.name}: data", evaluation.data
    weights = config.model.pretrained
    if weights is not None and Path(weights).exists():  # otherwise a name of published weights
        yield "model.pretrained", weights

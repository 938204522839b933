"""Paths of a sweep that runs on several machines: those of its config, and of its results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from gaptune.config import TrialConfig
from gaptune.errors import UserError
from gaptune.storage.folder import is_url


class NotSharedError(UserError):
    """A machine does not see the results of a sweep."""


def create_results(checkpoints: str) -> None:
    """Creates the folder of a sweep's checkpoints, by which machines know that they see it.

    Args:
        checkpoints: A folder or a URL. Only folders of this machine are created: object storage has none.
    """
    folder = _folder(checkpoints)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)


def check_results(checkpoints: str) -> None:
    """Checks that this machine sees the directory in which a sweep keeps its trials.

    Args:
        checkpoints: Folder or URL of a trial's checkpoints.

    Raises:
        NotSharedError: It does not: what it writes would be seen nowhere else.
    """
    folder = _folder(checkpoints)
    if folder is None or folder.parent.exists():
        return
    hint = "use a storage" if is_url(checkpoints) else "use --storage, or a results directory"
    raise NotSharedError(f"{folder.parent} does not exist there; {hint} that all machines see")


def _folder(place: str) -> Path | None:
    """A place as a path; None for the URL of a remote storage."""
    if place.startswith("file://"):
        return Path(unquote(place.removeprefix("file://")))
    return None if is_url(place) else Path(place)


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

"""Registers trained models in MLflow, with code of one file."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gaptune.errors import UserError
from gaptune.towers import TOWERS

_CODE = Path(__file__).parent / "embedder.py"
_HEADS = "heads.json"


def check_model_name(name: str) -> None:
    """Checks a name for the registry, before anything is exported.

    Raises:
        UserError: MLflow's registry does not accept it.
    """
    if not name.strip() or "/" in name or ":" in name or name in (".", "..") or not name.isprintable():
        raise UserError(
            f"{name!r} is no valid name for a registered model: use letters, digits, - and _, but no / or :"
        )


def register_model(exported: Path, *, name: str, uri: str, run: str, tags: Mapping[str, str]) -> str:
    """Logs an exported model to a run and registers it.

    The model takes a table with a column ``text``, a column ``image`` (files such as PNG or JPEG in base64, or data
    URLs of them), or both, and returns ``text_embedding`` and ``image_embedding``, of length 1. Images are preprocessed
    as ``preprocess_cfg`` of the export says. Heads take the columns ``text_features`` and ``image_features``, with a
    list of numbers in each cell; and ``text`` and ``image`` only where the export names the towers, which gaptune then
    opens. It is stored as code and weights, without pickle.

    Args:
        exported: Directory written by ``export_model``.
        name: Name in the registry.
        uri: MLflow's tracking URI.
        run: Id of the trial's run.
        tags: Tags of the registered version.

    Returns:
        The version.

    Raises:
        UserError: The store has no such run.
    """
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)  # log_model takes no URI; this call also sets an environment variable
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # MLflow prints what it does; errors are raised
            version = _log(exported, name, run, uri)
        client = mlflow.MlflowClient()
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None unsets it
    return version


def _log(exported: Path, name: str, run: str, uri: str) -> str:
    import mlflow
    from mlflow.exceptions import MlflowException

    taken = _taken(exported)
    client = mlflow.MlflowClient()
    try:
        ended = client.get_run(run).info.end_time
        mlflow.start_run(run_id=run)
    except MlflowException as error:
        raise UserError(f"MLflow at {uri} does not have the trial's run ({error.message}); run gaptune sync") from None
    try:
        info: Any = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_CODE),
            artifacts={"model": str(exported)},
            signature=_signature(taken.columns),
            input_example=taken.example,
            pip_requirements=taken.packages,
            registered_model_name=name,
        )
    finally:
        mlflow.end_run()
        client.set_terminated(run, end_time=ended)  # when the trial ended, not now
    return str(info.registered_model_version)


@dataclass(frozen=True)
class _Taken:
    """What an exported model takes.

    Attributes:
        columns: Its columns.
        example: A table with one row.
        packages: Distributions that it needs.
    """

    columns: list[str]
    example: Any
    packages: list[str]


def _taken(exported: Path) -> _Taken:
    import pandas as pd

    packages = ["torch", "pandas", "pillow"]
    file = exported / _HEADS
    if not file.exists():
        return _Taken(["text", "image"], _example(), ["open_clip_torch", *packages])
    heads = json.loads(file.read_text(encoding="utf-8"))
    features = {f"{modality}_features": [[1.0] * each["width"]] for modality, each in heads["features"].items()}
    towers = [heads["features"][name]["tower"]["tower"] for name in heads["inputs"] if name not in features]
    extras = ",".join(sorted({TOWERS[tower.partition(":")[0]].extra for tower in towers} - {""}))
    packages += ["numpy", "safetensors"]
    if towers:
        packages.append(f"gaptune{f'[{extras}]' if extras else ''}=={version('gaptune')}")
    return _Taken(heads["inputs"], pd.DataFrame(features), packages)


def _signature(columns: Sequence[str]) -> Any:
    """The optional columns that a model takes, and those that it returns."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType, Array

    # Features are lists of numbers. An array type would show the whole table in each error, and refuse dicts of lists.
    anything: Any = AnyType  # mlflow leaves it untyped
    kinds = {name: anything() if name.endswith("_features") else "string" for name in columns}
    return ModelSignature(
        inputs=Schema([ColSpec(kind, name, required=False) for name, kind in kinds.items()]),
        outputs=Schema([ColSpec(Array("double"), f"{name}_embedding", required=False) for name in ("text", "image")]),
    )


def _example() -> Any:
    """An example input of a CLIP with one row, stored with the model."""
    import pandas as pd
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return pd.DataFrame({"text": ["a red square"], "image": [base64.b64encode(file.getvalue()).decode()]})

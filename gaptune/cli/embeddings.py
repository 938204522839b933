"""The options of ``gaptune data features`` for embeddings in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.console.progress import progress_bar
from gaptune.errors import UserError

if TYPE_CHECKING:
    from gaptune.data import Store
    from gaptune.data.embeddings.places import Place


def _by_split(name: str, metavar: str, text: str) -> Any:
    help_text = f"{text} Once for each split."
    return click.option(f"--{name}", name.replace("-", "_"), metavar=metavar, multiple=True, help=help_text)


FILE_OPTIONS = (
    _by_split(
        "image",
        "SPLIT=FILE[:KEY]",
        "Features of images: .npy, .npz, .safetensors, .parquet, or a directory of .npy parts.",
    ),
    _by_split("text", "SPLIT=FILE[:KEY]", "Features of texts, in the same formats. Row i belongs to image i."),
    _by_split(
        "pairs",
        "SPLIT=FILE[:IMAGE,TEXT]",
        "CSV or Parquet file with row numbers of images and texts, from 0. Default columns: image_row,text_row.",
    ),
    _by_split("image-keys", "SPLIT=FILE[:COLUMN]", "Key of each image: .txt, .csv, .parquet, or .npy."),
    _by_split("text-keys", "SPLIT=FILE[:COLUMN]", "Key of each text: it belongs to the image with the same key."),
    _by_split("labels", "SPLIT=FILE[:COLUMN]", "Label of each image: a class index or name."),
    click.option("--classes", metavar="FILE", help="Class names, one per line, in the order of the labels."),
    click.option(
        "--prompts", metavar="FILE[:KEY]", help="Features of class prompts: all rows of the first class, then the next."
    ),
    click.option(
        "--val-fraction",
        metavar="FRACTION",
        type=click.FloatRange(0, 1, max_open=True),
        help="Fraction of train to use as val if there is no val. Default: 0.05.",
    ),
    click.option("--normalize", is_flag=True, help="Divide each feature by its length."),
    click.option("--center", is_flag=True, help="Subtract the training mean of images and of texts."),
)
"""Options of files, and of what is done with the features in them."""


def build_from_files(out: Path, options: dict[str, Any]) -> Store:
    """Builds a store from the values of ``FILE_OPTIONS``.

    Raises:
        UserError: A file is not what it should be, or files do not fit each other.
    """
    from gaptune.data.embeddings import Request, build_embeddings
    from gaptune.data.embeddings.places import find_place

    found = options | {name: _places(options[name], name) for name in ("image", "text")}
    found |= {name: _single(options[name], name) for name in ("pairs", "image_keys", "text_keys", "labels")}
    found |= {name: options[name] and find_place(options[name]) for name in ("classes", "prompts")}
    with progress_bar("images") as show:
        return build_embeddings(Request(**found), out=out, progress=show)


def _single(texts: tuple[str, ...], name: str) -> dict[str, Place]:
    found = _places(texts, name)
    for split, places in found.items():
        if len(places) > 1:
            raise UserError(f"--{name.replace('_', '-')} is given twice for {split}")
    return {split: places[0] for split, places in found.items()}


def _places(texts: tuple[str, ...], name: str) -> dict[str, list[Place]]:
    from gaptune.data.embeddings.places import find_place
    from gaptune.data.sources.splits import canonical

    found: dict[str, list[Place]] = {}
    for text in texts:
        split, equals, file = text.partition("=")
        if not equals or not split or not file:
            raise UserError(f"--{name.replace('_', '-')} {text!r}: expected SPLIT=FILE, such as train=FILE")
        found.setdefault(canonical(split), []).append(find_place(file))
    return found

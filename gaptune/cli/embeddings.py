"""The options of ``gaptune data features`` for embeddings in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.options import by_split, one_by_split
from gaptune.console.progress import progress_bar

if TYPE_CHECKING:
    from gaptune.data import Store


def _option(name: str, metavar: str, text: str) -> Any:
    help_text = f"{text} Once for each split."
    return click.option(f"--{name}", name.replace("-", "_"), metavar=metavar, multiple=True, help=help_text)


FILE_OPTIONS = (
    _option(
        "image",
        "SPLIT=FILE[:KEY]",
        "Features of images: .npy, .npz, .safetensors, .parquet, or a directory of .npy parts.",
    ),
    _option("text", "SPLIT=FILE[:KEY]", "Features of texts, in the same formats. Row i belongs to image i."),
    _option(
        "pairs",
        "SPLIT=FILE[:IMAGE,TEXT]",
        "CSV or Parquet file with row numbers of images and texts, from 0. Default columns: image_row,text_row.",
    ),
    _option("image-keys", "SPLIT=FILE[:COLUMN]", "Key of each image: .txt, .csv, .parquet, or .npy."),
    _option("text-keys", "SPLIT=FILE[:COLUMN]", "Key of each text: it belongs to the image with the same key."),
    _option("labels", "SPLIT=FILE[:COLUMN]", "Label of each image: a class index or name."),
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
    click.option(
        "--treated-as",
        metavar="STORE",
        help="Normalize and center as the data store STORE was, with its means: for evaluation data of its heads.",
    ),
)
"""Options of files, and of what is done with the features in them."""


def build_from_files(out: Path, options: dict[str, Any]) -> Store:
    """Builds a store from the values of ``FILE_OPTIONS``.

    Raises:
        UserError: A file is not what it should be, or files do not fit each other.
    """
    from gaptune.data.embeddings import Request, build_embeddings
    from gaptune.data.embeddings.places import find_place
    from gaptune.data.embeddings.treatment import Treatment
    from gaptune.data.open import open_store

    found = dict(options)
    for name in ("image", "text"):
        given = by_split(options[name], f"--{name}")
        found[name] = {split: [find_place(file) for file in files] for split, files in given.items()}
    for name in ("pairs", "image_keys", "text_keys", "labels"):
        single = one_by_split(options[name], f"--{name.replace('_', '-')}")
        found[name] = {split: find_place(file) for split, file in single.items()}
    found |= {name: options[name] and find_place(options[name]) for name in ("classes", "prompts")}
    if found["treated_as"]:
        found["treated_as"] = Treatment.of_store(open_store(found["treated_as"]))
    with progress_bar("images") as show:
        return build_embeddings(Request(**found), out=out, progress=show)

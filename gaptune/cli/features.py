"""The features of frozen towers for a store: options and body of ``gaptune data features STORE``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gaptune.errors import UserError
from gaptune.text.output import echo
from gaptune.towers.kinds import TOWERS as KINDS

if TYPE_CHECKING:
    from gaptune.data import Store
    from gaptune.towers.tower import Modality, Tower

TOWERS = ("image_tower", "text_tower", "model", "image_size", "pretrained", "seed")
"""Names of the options below."""


def _kinds(modality: Modality) -> str:
    return ", ".join(name for name, kind in KINDS.items() if modality in kind.modalities)


TOWER_OPTIONS = (
    click.option(
        "--image-tower",
        metavar="KIND:NAME[@WEIGHTS]",
        help=f"Image tower, such as {KINDS['offline'].example}. Kinds: {_kinds('image')}.",
    ),
    click.option(
        "--text-tower",
        metavar="KIND:NAME[@WEIGHTS]",
        help=f"Text tower, such as offline:all-minilm-l6-v2. Kinds: {_kinds('text')}.",
    ),
    click.option(
        "--model", metavar="MODEL", help="Both towers of one model: a preset of gaptune, or an open_clip model."
    ),
    click.option(
        "--image-size",
        metavar="PIXELS",
        type=click.IntRange(16, 1024),
        help="Side of the input of --model in pixels. Default: the size of the model.",
    ),
    click.option(
        "--pretrained",
        metavar="TAG|PATH",
        help="Weights of --model, as in model.pretrained. Default: random weights.",
    ),
    click.option(
        "--seed",
        metavar="N",
        default=0,
        show_default=True,
        type=click.IntRange(min=0),
        help="Seed for random weights.",
    ),
)
"""The towers of a STORE, and their weights."""


def features_of_store(
    reference: str,
    out: Path,
    *,
    image_tower: str | None,
    text_tower: str | None,
    model: str | None,
    image_size: int | None,
    pretrained: str | None,
    seed: int,
) -> Store:
    """Computes the features of a store; arguments are those of the command.

    Raises:
        UserError: The options contradict each other, or the towers cannot be opened or do not fit.
    """
    if model is None and (image_size is not None or pretrained is not None):
        raise UserError("--image-size and --pretrained belong to --model; weights of a tower follow it: KIND:NAME@FILE")
    if (model is None) == (image_tower is None and text_tower is None):
        raise UserError("give either --image-tower and --text-tower, or --model")
    if model is None and (image_tower is None or text_tower is None):
        raise UserError(f"--{'text' if text_tower is None else 'image'}-tower is missing")
    from gaptune.data.open import open_store

    store = open_store(reference)
    if model is None:
        from gaptune.towers import open_tower

        image = open_tower(str(image_tower), "image", seed=seed)
        return _build(store, out, image, open_tower(str(text_tower), "text", seed=seed))
    from gaptune.config import ModelConfig
    from gaptune.console import make_console
    from gaptune.trial.features import model_towers

    config = ModelConfig(name=model, image_size=image_size, pretrained=pretrained)
    image, text, remarks = model_towers(config, store, seed=seed)
    for remark in remarks:
        make_console(stderr=True).say(f"warning: {remark}")
    return _build(store, out, image, text)


def _build(store: Store, out: Path, image: Tower, text: Tower) -> Store:
    from gaptune.console.progress import progress_bar
    from gaptune.towers.features import build_features, partial_folder

    try:
        return build_features(store, image, text, out=out, bar=progress_bar)
    except KeyboardInterrupt:
        echo(f"The features so far are in {partial_folder(out)}. To continue: run the same command again.", err=True)
        raise

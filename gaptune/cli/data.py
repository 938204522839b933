"""``gaptune data``: building stores, and looking at them."""

from __future__ import annotations

from pathlib import Path

import click

from gaptune.cli.options import print_pairs
from gaptune.errors import UserError


@click.group()
def data() -> None:
    """Build and look at data stores."""


@data.group()
def build() -> None:
    """Turn images and captions into a store that trials memory-map."""


@build.command()
@click.option(
    "--annotations",
    required=True,
    multiple=True,
    metavar="SPLIT=FILE",
    help="COCO captions JSON of a split, e.g. train=captions_train.json.",
)
@click.option("--images", required=True, multiple=True, metavar="SPLIT=FOLDER", help="Folder of a split's images.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The store to make.")
@click.option(
    "--size",
    default=224,
    show_default=True,
    type=click.IntRange(16, 1024),
    help="Side of the stored squares in pixels.",
)
@click.option(
    "--context",
    default=77,
    show_default=True,
    type=click.IntRange(4, 512),
    help="Tokens of a caption, start and end included.",
)
@click.option(
    "--max-broken",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of broken or missing images above which the build fails.",
)
def coco(
    annotations: tuple[str, ...],
    images: tuple[str, ...],
    out: Path,
    size: int,
    context: int,
    max_broken: float,
) -> None:
    """From COCO captions files: --annotations train=a.json val=b.json --images train=DIR val=DIR."""
    from rich.console import Console
    from rich.progress import Progress

    from gaptune.data.coco import build_coco
    from gaptune.data.info import describe

    console = Console(stderr=True)
    with Progress(console=console) as bar:
        task = bar.add_task("images", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        store = build_coco(
            annotations=_by_split(annotations, "--annotations"),
            images=_by_split(images, "--images"),
            out=out,
            image_size=size,
            context_length=context,
            max_broken=max_broken,
            progress=show,
        )
    print_pairs(describe(store))


@data.command()
@click.argument("store", metavar="STORE")
@click.option("--verify", is_flag=True, help="Read everything and compare its hash.")
def info(store: str, verify: bool) -> None:
    """Say what is in a STORE (a folder, or `scenes`)."""
    from gaptune.data import open_store
    from gaptune.data.info import describe

    opened = open_store(store)
    if verify:
        opened.verify()
    print_pairs(describe(opened))


def _by_split(texts: tuple[str, ...], option: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in texts:
        split, equals, path = text.partition("=")
        if not equals or not split or not path:
            raise UserError(f"{option} {text!r}: expected SPLIT=PATH, such as train=captions_train.json")
        found[split] = Path(path)
    return found

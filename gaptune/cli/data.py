"""``gaptune data``: building stores, and looking at them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.options import LocalPath, NewFile, json_option
from gaptune.console import make_console
from gaptune.console.json_output import print_json
from gaptune.console.plain import print_pairs, print_rows
from gaptune.errors import UserError
from gaptune.storage.paths import check_folder
from gaptune.text.output import echo

if TYPE_CHECKING:
    from gaptune.data import Store
    from gaptune.data.sources import Source


@click.group()
def data() -> None:
    """Build and look at data stores."""


@data.group()
def build() -> None:
    """Turn images and captions into a store that trials memory-map."""


_outside_option = click.option(
    "--allow-outside",
    is_flag=True,
    help="Read images that lie outside the folder that their paths are relative to.",
)


def _store_options(command: Callable[..., None]) -> Callable[..., None]:
    """What all builds share; a command gets them as ``options``, for ``_build``."""
    for option in reversed(
        [
            click.option("--out", required=True, type=LocalPath(), help="The store to make."),
            click.option(
                "--size",
                "image_size",
                default=224,
                show_default=True,
                type=click.IntRange(16, 1024),
                help="Side of the stored squares in pixels.",
            ),
            click.option(
                "--context",
                "context_length",
                default=77,
                show_default=True,
                type=click.IntRange(4, 512),
                help="Tokens of a caption, start and end included.",
            ),
            click.option(
                "--max-broken",
                default=0.01,
                show_default=True,
                type=click.FloatRange(0, 1),
                help="Fraction of broken or missing images above which the build fails.",
            ),
            click.option(
                "--val-fraction",
                type=click.FloatRange(0, 1, max_open=True),
                help="Fraction of train that becomes val by hash, without a val; default: 0.05, in benchmarks 0.",
            ),
        ]
    ):
        command = option(command)
    return command


@build.command()
@click.option(
    "--annotations",
    required=True,
    multiple=True,
    metavar="SPLIT=FILE",
    help="COCO captions JSON of a split, e.g. train=captions_train.json; once for each split.",
)
@click.option(
    "--images",
    required=True,
    multiple=True,
    metavar="SPLIT=FOLDER",
    help="Folder of a split's images; once for each split.",
)
@_outside_option
@_store_options
def coco(annotations: tuple[str, ...], images: tuple[str, ...], allow_outside: bool, **options: Any) -> None:
    """From COCO captions files, such as

    \b
    gaptune data build coco --out STORE \\
      --annotations train=a.json --annotations val=b.json \\
      --images train=DIR --images val=DIR

    Each split has its own --annotations and --images.
    """  # noqa: D301, D415 (click looks for the character itself)
    from gaptune.data.sources import Coco

    tables, folders = _by_split(annotations, "--annotations"), _by_split(images, "--images")
    _build(Coco(tables, folders, outside=allow_outside), options)


@build.command()
@click.argument("folder", metavar="FOLDER")
@_store_options
def imagefolder(folder: str, **options: Any) -> None:
    """From folders of images by class: FOLDER/train/CLASS/*.jpg, FOLDER/test/CLASS/*.jpg."""
    from gaptune.data.sources import ImageFolder

    _build(ImageFolder.at(folder), options)


@build.command()
@click.argument("shards", metavar="[SPLIT=]SHARDS...", nargs=-1, required=True)
@_store_options
def webdataset(shards: tuple[str, ...], **options: Any) -> None:
    """From tar files such as 'shards/{00000..00012}.tar', or a folder with train/*.tar and test/*.tar."""
    from gaptune.data.sources import WebDataset

    _build(WebDataset.at(*shards), options)


def _table_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where a table is, and what its columns are called."""
    for option in reversed(
        [
            click.argument("files", metavar="[SPLIT=]FILE...", nargs=-1, required=True),
            click.option("--image", default="filepath", show_default=True, help="Column of paths, or of image bytes."),
            click.option(
                "--caption",
                "captions",
                default=("title",),
                show_default=True,
                multiple=True,
                help="Column of captions; may be given several times.",
            ),
            click.option("--id", help="Column of names; default: the path, or the number of the row."),
            click.option("--split", help="Column that says the split."),
            click.option("--label", help="Column of class names, or of indices into classnames.txt."),
            _outside_option,
        ]
    ):
        command = option(command)
    return command


@build.command()
@_table_options
@_store_options
def csv(**options: Any) -> None:
    """From CSV files with a header, separated by commas or tabs; paths are relative to the file."""
    _build_table("csv", options)


@build.command()
@_table_options
@_store_options
def jsonl(**options: Any) -> None:
    """From JSON Lines files, an object a line; paths are relative to the file."""
    _build_table("jsonl", options)


@build.command()
@_table_options
@_store_options
def parquet(**options: Any) -> None:
    """From Parquet files; paths are relative to the file."""
    _build_table("parquet", options)


@build.command()
@click.argument("folder", metavar="FOLDER")
@_store_options
def mmvp(folder: str, **options: Any) -> None:
    """From fine-grained pairs: FOLDER has MMVP-VLM's Questions.csv and images, or pairs.csv."""
    from gaptune.data.sources import Mmvp

    _build(Mmvp.at(folder), options)


@build.command()
@click.argument("place", metavar="PATH")
@click.option("--download", is_flag=True, help="Download CIFAR-10 into the folder PATH first.")
@_store_options
def cifar10(place: str, download: bool, **options: Any) -> None:
    """From CIFAR-10's own files: PATH is cifar-10-python.tar.gz, cifar-10-batches-py, or what holds one of them."""
    from gaptune.data.sources import Cifar10
    from gaptune.data.sources.cifar10 import download_cifar10

    if download:
        download_cifar10(Path(place))
    _build(Cifar10.at(place), options)


@data.command()
@click.argument("store", metavar="STORE")
@click.option("--model", "name", required=True, help="A preset, or an open_clip model by name.")
@click.option("--image-size", type=click.IntRange(16, 1024), help="Side of the model's input; default: its own.")
@click.option(
    "--pretrained", metavar="TAG|PATH", help="Weights of the towers, as in model.pretrained; default: random."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the random weights.")
@click.option("--out", required=True, type=LocalPath(), help="The store to make.")
def features(store: str, name: str, image_size: int | None, pretrained: str | None, seed: int, out: Path) -> None:
    """Compute the features of frozen towers for every image and caption of STORE, once."""
    from rich.progress import Progress

    from gaptune.config import ModelConfig
    from gaptune.data.open import open_store
    from gaptune.trial.features import build_features

    check_folder(out.parent, "--out")
    with Progress(console=make_console(stderr=True)) as bar:
        task = bar.add_task("images", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        def say(remark: str) -> None:
            bar.console.print(f"warning: {remark}", markup=False, highlight=False, soft_wrap=True)

        model = ModelConfig(name=name, image_size=image_size, pretrained=pretrained)
        made = build_features(model, open_store(store), seed=seed, out=out, progress=show, say=say)
    _print(made)


@data.command()
@click.argument("store", metavar="STORE")
@click.option("--verify", is_flag=True, help="Read everything, and compare it with its hash and with store.json.")
@json_option
def info(store: str, verify: bool, as_json: bool) -> None:
    """Say what is in a STORE (a folder, `scenes`, or a kind and a place such as imagefolder:PATH)."""
    from dataclasses import asdict

    from gaptune.data.open import open_store

    opened = open_store(store)
    if verify:
        opened.verify()
    if as_json:
        print_json({"folder": str(opened.path), **asdict(opened.meta)})
    else:
        _print(opened)


@data.command()
@click.argument("store", metavar="STORE")
@click.option("--split", help="The split to look at; default: train, or the first.")
@click.option("--count", default=24, show_default=True, type=click.IntRange(1, 1000), help="How many pairs.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the draw.")
@click.option(
    "--out",
    default="look.html",
    show_default=True,
    type=NewFile(".html", ".png"),
    help="The page to write: .html, or .png.",
)
def look(store: str, split: str | None, count: int, seed: int, out: Path) -> None:
    """Write a page of random pairs of STORE as they are stored: pictures, captions, labels, names."""
    from gaptune.data.look import random_pairs, write_page
    from gaptune.data.open import open_store

    opened = open_store(store)
    split = split or next(iter(opened.meta.splits))
    pairs = random_pairs(opened, split, count=count, seed=seed)
    images = opened.meta.splits[split].images
    write_page(out, f"{opened.meta.name}: {len(pairs)} of {images:,} {split} images", pairs)
    echo(str(out))


def _build_table(form: str, options: dict[str, Any]) -> None:
    from gaptune.data.sources import Columns, Csv, Jsonl, Parquet

    columns = Columns(**{name: options.pop(name) for name in ("image", "captions", "id", "split", "label")})
    table = {each.kind: each for each in (Csv, Jsonl, Parquet)}[form]
    source = table.of(options.pop("files"), columns, outside=options.pop("allow_outside"))
    _build(source, options)


def _build(source: Source, options: dict[str, Any]) -> None:
    from rich.progress import Progress

    from gaptune.data.build import build

    check_folder(options["out"].parent, "--out")
    with Progress(console=make_console(stderr=True)) as bar:
        task = bar.add_task("images", total=None)
        store = build(source, **options, progress=lambda done, total: bar.update(task, completed=done, total=total))
    _print(store)


def _print(store: Store) -> None:
    from gaptune.data.info import describe, splits_table

    print_rows(splits_table(store))
    echo("")
    print_pairs(describe(store))


def _by_split(texts: tuple[str, ...], option: str) -> dict[str, Path]:
    from gaptune.data.sources.splits import canonical

    found: dict[str, Path] = {}
    for text in texts:
        split, equals, path = text.partition("=")
        if not equals or not split or not path:
            raise UserError(f"{option} {text!r}: expected SPLIT=PATH, such as train=captions_train.json")
        if canonical(split) in found:
            raise UserError(f"{option} is given twice for {canonical(split)}")
        found[canonical(split)] = Path(path)
    return found

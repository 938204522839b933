"""``gaptune data``: build and inspect data stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.cache import cache
from gaptune.cli.embeddings import FILE_OPTIONS, build_from_files
from gaptune.cli.features import TOWER_OPTIONS, TOWERS, features_of_store
from gaptune.cli.group import Group
from gaptune.cli.options import LocalPath, NewFile, json_option, one_by_split
from gaptune.console.json_output import print_json
from gaptune.console.plain import print_pairs, print_rows
from gaptune.console.progress import progress_bar
from gaptune.errors import UserError
from gaptune.storage.paths import check_folder
from gaptune.text.output import echo

if TYPE_CHECKING:
    from gaptune.data import Store
    from gaptune.data.sources import Source


@click.group(cls=Group, epilog="Example: gaptune data info scenes")
def data() -> None:
    """Build and inspect data stores."""


data.add_command(cache)


class _BuildGroup(Group):
    """A command for each kind of source; a kind without one of its own gets one that takes its path."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all kinds."""
        from gaptune.data.sources import SOURCES

        return sorted({*super().list_commands(ctx), *SOURCES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a kind; None if there is no such kind."""
        if (command := super().get_command(ctx, cmd_name)) is not None:
            return command
        from gaptune.data.sources import SOURCES

        return _plain_build(SOURCES[cmd_name]) if cmd_name in SOURCES else None


@data.group(
    cls=_BuildGroup, epilog="Example: gaptune data build csv captions.csv --out my-store --size 32 --context 16"
)
def build() -> None:
    """Build a data store from images and captions."""


_outside_option = click.option(
    "--allow-outside",
    is_flag=True,
    help="Also read images outside of the directory that their paths are relative to.",
)

_STORE_OPTIONS = (
    click.option("--out", metavar="DIR", required=True, type=LocalPath(), help="Data store to create."),
    click.option(
        "--size",
        "image_size",
        metavar="PIXELS",
        default=224,
        show_default=True,
        type=click.IntRange(16, 1024),
        help="Side of the stored square images in pixels.",
    ),
    click.option(
        "--context",
        "context_length",
        metavar="N",
        default=77,
        show_default=True,
        type=click.IntRange(4, 512),
        help="Number of tokens of a caption, including start and end.",
    ),
    click.option(
        "--max-broken",
        metavar="FRACTION",
        default=0.01,
        show_default=True,
        type=click.FloatRange(0, 1),
        help="Largest fraction of broken or missing images; the build fails above it.",
    ),
    click.option(
        "--val-fraction",
        metavar="FRACTION",
        type=click.FloatRange(0, 1, max_open=True),
        help="Fraction of the training split to use for validation if there is no validation split. Default: 0.05; "
        "0 for benchmarks.",
    ),
)
"""Options of all builds."""

_TABLE_OPTIONS = (
    click.argument("files", metavar="[SPLIT=]FILE...", nargs=-1, required=True),
    click.option(
        "--image",
        metavar="COLUMN",
        default="filepath",
        show_default=True,
        help="Column of paths, or of the bytes of images.",
    ),
    click.option(
        "--caption",
        "captions",
        metavar="COLUMN",
        default=("title",),
        show_default=True,
        multiple=True,
        help="Column of captions; may be given several times.",
    ),
    click.option("--id", metavar="COLUMN", help="Column of names. Default: the path, or the number of the row."),
    click.option("--split", metavar="COLUMN", help="Column of splits."),
    click.option("--label", metavar="COLUMN", help="Column of class names, or of indices into classnames.txt."),
    _outside_option,
)
"""The files of a table, and the names of its columns."""


def _with(*decorators: Callable[[Callable[..., None]], Callable[..., None]]) -> Callable[..., Callable[..., None]]:
    """Adds parameters to a command, which takes those of ``_STORE_OPTIONS`` as ``options``, for ``_build``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


@build.command(epilog="Example: gaptune data build coco --annotations train=a.json --images train=DIR --out STORE")
@click.option(
    "--annotations",
    required=True,
    multiple=True,
    metavar="SPLIT=FILE",
    help="Captions file of a split, such as train=captions_train.json; once for each split.",
)
@click.option(
    "--images",
    required=True,
    multiple=True,
    metavar="SPLIT=DIR",
    help="Directory of the images of a split; once for each split.",
)
@_outside_option
@_with(*_STORE_OPTIONS)
def coco(annotations: tuple[str, ...], images: tuple[str, ...], allow_outside: bool, **options: Any) -> None:
    """From captions files of COCO.

    Each split has its own --annotations and --images.
    """
    from gaptune.data.sources import Coco

    tables = {split: Path(file) for split, file in one_by_split(annotations, "--annotations", "PATH").items()}
    folders = {split: Path(folder) for split, folder in one_by_split(images, "--images", "PATH").items()}
    _build(Coco(tables, folders, outside=allow_outside), options)


@build.command(epilog="Example: gaptune data build imagefolder pets --out pets-store --size 64")
@click.argument("folder", metavar="DIR")
@_with(*_STORE_OPTIONS)
def imagefolder(folder: str, **options: Any) -> None:
    """From directories of images by class.

    The images are DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg.
    """
    from gaptune.data.sources import ImageFolder

    _build(ImageFolder.at(folder), options)


@build.command(epilog="Example: gaptune data build webdataset 'shards/{00000..00012}.tar' --out STORE")
@click.argument("shards", metavar="[SPLIT=]SHARDS...", nargs=-1, required=True)
@_with(*_STORE_OPTIONS)
def webdataset(shards: tuple[str, ...], **options: Any) -> None:
    """From tar files of WebDataset.

    SHARDS are tar files such as 'shards/{00000..00012}.tar', or a directory with train/*.tar and test/*.tar.
    """
    from gaptune.data.sources import WebDataset

    _build(WebDataset.at(*shards), options)


@build.command(epilog="Example: gaptune data build csv captions.csv --out my-store --size 32 --context 16")
@_with(*_TABLE_OPTIONS, *_STORE_OPTIONS)
def csv(**options: Any) -> None:
    """From CSV files.

    The first line is the header. Columns are separated by commas or tabs. Paths are relative to the file.
    """
    _build_table("csv", options)


@build.command(epilog="Example: gaptune data build jsonl train=captions.jsonl --caption text --out my-store")
@_with(*_TABLE_OPTIONS, *_STORE_OPTIONS)
def jsonl(**options: Any) -> None:
    """From JSON Lines files.

    Each line is an object. Paths are relative to the file.
    """
    _build_table("jsonl", options)


@build.command(epilog="Example: gaptune data build parquet train=a.parquet val=b.parquet --image bytes --out my-store")
@_with(*_TABLE_OPTIONS, *_STORE_OPTIONS)
def parquet(**options: Any) -> None:
    """From Parquet files.

    Paths are relative to the file.
    """
    _build_table("parquet", options)


@build.command(epilog="Example: gaptune data build mmvp MMVP_VLM --out mmvp-store")
@click.argument("folder", metavar="DIR")
@_with(*_STORE_OPTIONS)
def mmvp(folder: str, **options: Any) -> None:
    """From the pairs of MMVP-VLM.

    DIR contains Questions.csv and the images of MMVP-VLM, or pairs.csv.
    """
    from gaptune.data.sources import Mmvp

    _build(Mmvp.at(folder), options)


@build.command(epilog="Example: gaptune data build cifar10 cifar --download --out cifar-store --size 32")
@click.argument("place", metavar="PATH")
@click.option("--download", is_flag=True, help="First download CIFAR-10 into the directory PATH.")
@_with(*_STORE_OPTIONS)
def cifar10(place: str, download: bool, **options: Any) -> None:
    """From the files of CIFAR-10.

    PATH is cifar-10-python.tar.gz, cifar-10-batches-py, or a directory that contains one of them.
    """
    from gaptune.data.sources import Cifar10
    from gaptune.data.sources.cifar10 import download_cifar10

    if download:
        download_cifar10(Path(place))
    _build(Cifar10.at(place), options)


@data.command(
    epilog="Example: gaptune data features scenes --image-tower offline:efficientnet-lite0 "
    "--text-tower offline:all-minilm-l6-v2 --out features"
)
@click.argument("store", metavar="[STORE]", required=False)
@_with(*TOWER_OPTIONS, *FILE_OPTIONS)
@click.option("--out", metavar="DIR", required=True, type=LocalPath(), help="Data store to create.")
def features(store: str | None, out: Path, **options: Any) -> None:
    """Make a data store of features, on which heads train fast.

    The features are in files, or are computed by frozen towers from the images, captions, and class prompts of STORE.
    Computing can be interrupted: run the same command again to continue.
    """
    check_folder(out.parent, "--out")
    towers = {name: options.pop(name) for name in TOWERS}
    if store is None:
        if given := [name for name in TOWERS if towers[name]]:
            raise UserError(f"--{_dashed(given[0])} needs a STORE of images; features in files need --image SPLIT=FILE")
        _print(build_from_files(out, options))
        return
    if given := [name for name, value in options.items() if value]:
        raise UserError(f"--{_dashed(given[0])} is for features in files: leave out {store}")
    _print(features_of_store(store, out, **towers))


@data.command(epilog="Example: gaptune data info scenes --verify")
@click.argument("store", metavar="STORE")
@click.option("--verify", is_flag=True, help="Also compare all data with their hash and with store.json.")
@json_option
def info(store: str, verify: bool, as_json: bool) -> None:
    """Show what a STORE contains.

    STORE is a data store, `scenes`, or a data set by kind and path, such as imagefolder:PATH.
    """
    from dataclasses import asdict

    from gaptune.data.open import open_store

    opened = open_store(store)
    if verify:
        opened.verify()
    if as_json:
        print_json({"folder": str(opened.path), **asdict(opened.meta)})
    else:
        _print(opened)


@data.command(epilog="Example: gaptune data look scenes --split val --out look.html")
@click.argument("store", metavar="STORE")
@click.option("--split", metavar="SPLIT", help="Split to show. Default: train, or the first split.")
@click.option(
    "--count", metavar="N", default=24, show_default=True, type=click.IntRange(1, 1000), help="Number of pairs."
)
@click.option(
    "--seed", metavar="N", default=0, show_default=True, type=click.IntRange(min=0), help="Seed for the random pairs."
)
@click.option(
    "--out",
    metavar="FILE",
    default="look.html",
    show_default=True,
    type=NewFile(".html", ".png"),
    help="File to write: *.html or *.png.",
)
def look(store: str, split: str | None, count: int, seed: int, out: Path) -> None:
    """Write a page with random pairs of STORE.

    Shows images, captions, labels, and names as they are stored.
    """
    from gaptune.data.look import random_pairs, write_page
    from gaptune.data.open import open_store

    opened = open_store(store)
    split = split or next(iter(opened.meta.splits))
    pairs = random_pairs(opened, split, count=count, seed=seed)
    images = opened.meta.splits[split].images
    write_page(out, f"{opened.meta.name}: {len(pairs)} of {images:,} {split} images", pairs)
    echo(str(out))


def _plain_build(kind: type[Source]) -> click.Command:
    """The command that builds from a kind of source that has no options."""

    @click.command(kind.kind, help=kind.__doc__, epilog=f"Example: gaptune data build {kind.kind} PATH --out my-store")
    @click.argument("place", metavar="PATH")
    @_with(*_STORE_OPTIONS)
    def command(place: str, **options: Any) -> None:
        _build(kind.at(place), options)

    return command


def _build_table(form: str, options: dict[str, Any]) -> None:
    from gaptune.data.sources import Columns, Csv, Jsonl, Parquet

    columns = Columns(**{name: options.pop(name) for name in ("image", "captions", "id", "split", "label")})
    table = {each.kind: each for each in (Csv, Jsonl, Parquet)}[form]
    source = table.of(options.pop("files"), columns, outside=options.pop("allow_outside"))
    _build(source, options)


def _build(source: Source, options: dict[str, Any]) -> None:
    from gaptune.data.build import build

    check_folder(options["out"].parent, "--out")
    with progress_bar("images") as show:
        store = build(source, **options, progress=show)
    _print(store)


def _print(store: Store) -> None:
    from gaptune.data.info import describe, splits_table

    print_rows(splits_table(store))
    echo("")
    print_pairs(describe(store))


def _dashed(name: str) -> str:
    return name.replace("_", "-")

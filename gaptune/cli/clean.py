"""``gaptune clean``: the disk space of sweeps that have ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from gaptune.cli.options import SweepName, json_option, results_option
from gaptune.console.json_output import print_json
from gaptune.errors import UserError
from gaptune.ledger import FILE_NAME, in_use, load, read_events, sweep_folder
from gaptune.storage.bundled import EXAMPLES
from gaptune.text.output import echo

if TYPE_CHECKING:
    from gaptune.engine.retention import Freed

Kept = Literal["complete", "front", "none"]


@click.command()
@click.argument("names", nargs=-1, type=SweepName())
@click.option(
    "--keep",
    type=click.Choice(["complete", "front", "none"]),
    default="complete",
    show_default=True,
    help="Whose weights stay: of complete trials, of those on the front, or of none.",
)
@click.option("--yes", is_flag=True, help="Do it; without, only show what would be freed.")
@results_option
@json_option
def clean(names: tuple[str, ...], keep: Kept, yes: bool, results: Path, as_json: bool) -> None:
    """Remove checkpoints that the sweeps NAMES (default: all) no longer need.

    Trials that may go on keep theirs. Ledgers, reports and numbers of trials stay as they are.
    """
    folders = [_folder(results, name) for name in names]
    running = [] if names else [path.parent for path in results.glob(f"*/{FILE_NAME}") if in_use(path.parent)]
    if not names:
        folders = [path.parent for path in sorted(results.glob(f"*/{FILE_NAME}")) if path.parent not in running]
    freed = {folder.name: _clean(folder, keep, remove=yes) for folder in folders}
    if as_json:
        rows = [
            {"sweep": name, "optimizer_bytes": one.optimizer, "weights_bytes": one.weights, "kept_bytes": one.kept}
            for name, one in freed.items()
        ]
        print_json({"keep": keep, "removed": yes, "sweeps": rows})
        return
    width = max([len(name) for name in freed] + [len("total")])
    echo(f"{'':<{width}}  {'optimizers':>10}  {'weights':>10}  {'kept':>10}")
    for name, one in freed.items():
        echo(f"{name:<{width}}  {_size(one.optimizer):>10}  {_size(one.weights):>10}  {_size(one.kept):>10}")
    for folder in running:
        echo(f"{folder.name} is running and was left alone")
    total = sum(one.optimizer + one.weights for one in freed.values())
    if total == 0:
        echo("there is nothing to remove")
    elif yes:
        echo(f"removed {_size(total)}")
    else:
        echo(f"nothing was removed; the same command with --yes frees {_size(total)}")


def _folder(results: Path, name: str) -> Path:
    if name in EXAMPLES and not (results / name / FILE_NAME).exists():
        raise UserError(f"{name!r} is a recorded sweep that comes with gaptune; it has no checkpoints")
    folder = sweep_folder(results, name)
    if in_use(folder):
        raise UserError(f"sweep {name!r} is running; it removes what it does not need itself")
    return folder


def _clean(folder: Path, keep: Kept, *, remove: bool) -> Freed:
    from gaptune.engine.retention import clean as clean_sweep
    from gaptune.storage.folder import Folder

    record = load(folder)
    if any(not damage.torn for damage in read_events(folder)[1]):
        raise UserError(f"the ledger of {folder.name!r} is damaged: what its trials came to is not known for sure")
    storage = record.header.storage
    trials = Folder(f"{storage.rstrip('/')}/{record.name}/trials") if storage else folder / "trials"
    try:
        return clean_sweep(record, trials, keep, remove=remove)
    except OSError as error:
        raise UserError(f"the checkpoints of {folder.name!r} could not be removed: {error}") from None


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"

"""``gaptune data cache``: data stores that gaptune copied or built, and can make again."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import click

from gaptune.cli.options import json_option
from gaptune.console import make_console
from gaptune.console.json_output import print_json
from gaptune.text.output import echo
from gaptune.text.words import size

if TYPE_CHECKING:
    from gaptune.storage.cache import Entry

_DAY_S = 86400.0
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class _Size(click.ParamType[int]):
    """A number of bytes such as ``50GB``."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads the number and the unit."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", value.strip())
        if found is None or found[2].upper() not in _UNITS:
            self.fail(f"{value!r} is not a size such as 500MB or 50GB", param, ctx)
        return int(float(found[1]) * _UNITS[found[2].upper()])


@click.command(epilog="Example: gaptune data cache --max-size 50GB --older-than 30 --yes")
@click.option("--max-size", metavar="SIZE", type=_Size(), help="Remove until all together have at most SIZE.")
@click.option(
    "--older-than", metavar="DAYS", type=click.FloatRange(min=0), help="Remove what was not used for DAYS days."
)
@click.option("--yes", is_flag=True, help="Remove the files. Without this option, only print what would be removed.")
@json_option
def cache(max_size: int | None, older_than: float | None, yes: bool, as_json: bool) -> None:
    """List data stores that gaptune copied or built, and remove old ones.

    These are copies of stores by URL, and stores of data sets such as imagefolder:PATH. They are made again when they
    are needed. What was not used for the longest time is removed first; what is in use is never removed.
    """
    from gaptune.storage.cache import cache_folder, entries, removable, remove

    found, now = entries(), time.time()
    names = {entry.path: _name(entry) for entry in found}
    before = None if older_than is None else now - older_than * _DAY_S
    chosen = removable(found, most=max_size, before=before)
    gone = [entry for entry in chosen if remove(entry)] if yes else []
    if as_json:
        rows = [
            {
                "path": str(entry.path),
                "name": names[entry.path],
                "bytes": entry.bytes,
                "used_at": entry.used,
                "in_use": entry.in_use,
                "removed": entry in gone,
            }
            for entry in found
        ]
        print_json({"folder": str(cache_folder()), "stores": rows})
        return
    if not found:
        echo(f"no data stores in {cache_folder()}")
        return
    from gaptune.console.tables import make_table

    headings = ("store", "size", "last used", "")
    marked = {entry.path: "removed" if yes else "to remove" for entry in (gone if yes else chosen)}
    rows_of_text = [
        (names[entry.path], size(entry.bytes), _ago(now - entry.used), _state(entry, marked.get(entry.path)))
        for entry in found
    ]
    make_console().print(make_table(headings, rows_of_text, right=headings[1:3]))
    freed = sum(entry.bytes for entry in (gone if yes else chosen))
    left = sum(entry.bytes for entry in found) - (freed if yes else 0)
    echo(f"{size(left)} in {cache_folder()}")
    if freed and yes:
        echo(f"removed {size(freed)}")
    elif freed:
        echo(f"nothing was removed; the same command with --yes frees {size(freed)}")


def _name(entry: Entry) -> str:
    """The name of a store; that of its folder if it has none."""
    try:
        return str(json.loads((entry.path / "store.json").read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return entry.path.name


def _state(entry: Entry, mark: str | None) -> str:
    notes = ["in use"] if entry.in_use else []
    notes += ["unfinished"] if entry.unfinished else []
    return ", ".join([*notes, mark] if mark else notes)


def _ago(seconds: float) -> str:
    hours = seconds / 3600
    if hours < 1:
        return "now"
    return f"{hours:.0f} h ago" if hours < 48 else f"{hours / 24:.0f} days ago"

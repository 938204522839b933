"""The lines of a ledger: JSON with a checksum each, and what is damaged among them."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gaptune.errors import UserError
from gaptune.ledger.schema1 import is_old, translate

FILE_NAME = "ledger.jsonl"
SCHEMA = 2

Event = dict[str, Any]

_BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(rb'"(trial|candidate|suggestion)":(\d{1,9})[,}]')


@dataclass(frozen=True)
class Damage:
    """A line of a ledger that cannot be used. ``torn`` marks a last line that was cut short by a crash."""

    line: int
    torn: bool
    content: bytes


def encode(event: Event) -> bytes:
    """An event as a line.

    Raises:
        ValueError: It holds a float that is not finite: no reader agrees on those.
    """
    body = json.dumps(event, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    return body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body)


def read_events(folder: Path) -> tuple[list[Event], list[Damage]]:
    """Reads a sweep's ledger, also while a driver appends to it.

    Args:
        folder: The sweep's folder.

    Returns:
        The good events in order, and the lines that are damaged.

    Raises:
        UserError: There is no ledger there, or it cannot be read.
    """
    path = folder / FILE_NAME
    try:
        return parse_events(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"no sweep at {folder} (it has no {FILE_NAME})") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", file=path) from None


def parse_events(content: bytes) -> tuple[list[Event], list[Damage]]:
    """The good events and the damaged lines in the content of a ledger.

    A line counts by its content: an editor's line ends and mark at the beginning do no harm.
    """
    events: list[Event] = []
    damages: list[Damage] = []
    lines = content.removeprefix(_BOM).split(b"\n")
    last = len(lines) - 1  # what follows the last newline: empty, or a line that may be cut short
    for number, line in enumerate(lines):
        event = _decode(line.rstrip(b"\r"))
        if event is not None:
            events.append(event)
        elif line.strip(b"\r"):
            damages.append(Damage(number + 1, number == last, line))
    if is_old(content):
        events = [translate(event) for event in events]
    return events, damages


def name_lines(damages: Sequence[Damage]) -> str:
    """The numbers of damaged lines, for a message: ``4, 9``; many are cut short."""
    return ", ".join(str(damage.line) for damage in damages[:5]) + (", …" if len(damages) > 5 else "")


def numbers_in(damages: Iterable[Damage], limit: int) -> tuple[int, int]:
    """The highest number of a trial and of a candidate that damaged lines still show; -1 for none.

    Args:
        damages: The lines.
        limit: Numbers above it are not believed: a damaged digit may show anything.
    """
    highest = {b"trial": -1, b"candidate": -1}
    for damage in damages:
        for kind, digits in _NUMBER.findall(damage.content):
            kind = b"candidate" if kind == b"suggestion" else kind  # as schema 1 calls it
            if int(digits) <= limit:
                highest[kind] = max(highest[kind], int(digits))
    return highest[b"trial"], highest[b"candidate"]


def _decode(line: bytes) -> Event | None:
    head, mark, crc = line.rpartition(b',"crc":"')
    body = head + b"}"
    if not mark or crc != b'%08x"}' % zlib.crc32(body):
        return None
    # Three times as quick as json: most of what reading a sweep takes. Whole numbers are exact within 64 bits, and all
    # that a ledger may contain are.
    event: Event = orjson.loads(body)
    return event

"""Members of tar files, read once from the beginning to the end, which has to be there."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gaptune.data.images import MOST_BYTES, UnreadableError
from gaptune.errors import UserError

_BLOCK = tarfile.BLOCKSIZE
_OPENERS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
_ERRORS = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Member:
    """A file in a tar file; it is to be read before the next one is asked for.

    Attributes:
        name: As it is in the archive; bytes that are not UTF-8 are surrogates.
        archive: Which archive of the file it is in, from 0: a file can hold several, one behind the other.
    """

    name: str
    archive: int
    _tar: tarfile.TarFile
    _info: tarfile.TarInfo
    _shard: Path

    def read(self) -> bytes:
        """Its content.

        Raises:
            UnreadableError: It is larger than the file of an image may be.
            UserError: The archive ends within it.
        """
        if self._info.size > MOST_BYTES:
            raise UnreadableError("too large", f"{self._info.size / 2**30:.1f} GiB, at most {MOST_BYTES >> 30}")
        try:
            content = self._tar.extractfile(self._info)
            return content.read() if content else b""
        except _ERRORS as error:
            raise _unreadable(self._shard, error) from None


def members_of(shard: Path) -> Iterator[Member]:
    """The regular files of a tar file, which may be packed by gzip, bzip2 or xz.

    Archives that were put together by ``cat`` are read one after the other. An archive ends with blocks of zeros:
    without them it was cut short, be it exactly between two members.

    Raises:
        UserError: It cannot be read as a tar file, has no end, or is damaged.
    """
    try:
        with _opened(shard) as stream:
            watched = _Watched(stream)
            number = 0
            while True:
                with tarfile.open(fileobj=watched, mode="r:") as tar:  # type: ignore[call-overload]
                    while (info := tar.next()) is not None:
                        tar.members = []  # else they would all be kept
                        if info.isfile():
                            yield Member(info.name, number, tar, info, shard)
                watched.check_end(shard)
                if not watched.skip_zeros():
                    return
                number += 1
    except _ERRORS as error:
        raise _unreadable(shard, error) from None


class _Watched:
    """A stream that remembers what was read last: where a tar file ends, ``tarfile`` does not say why."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._last = b""
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        self._last = self._stream.read(size)
        return self._last

    def check_end(self, shard: Path) -> None:
        """Checks that what was read last is a block of zeros."""
        if len(self._last) < _BLOCK:
            raise UserError("has no end: the file was cut short (a tar file ends with blocks of zeros)", file=shard)
        if any(self._last):
            raise UserError(f"is damaged at byte {self._stream.tell() - _BLOCK:,}: no header of a member", file=shard)

    def skip_zeros(self) -> bool:
        """Goes to the first block that is not zeros; returns whether there is one."""
        while block := self._stream.read(_BLOCK):
            if any(block):
                self._stream.seek(-len(block), 1)
                return True
        return False


def _opened(shard: Path) -> IO[bytes]:
    with shard.open("rb") as file:
        start = file.read(6)
    opener = next((opener for sign, opener in _OPENERS if start.startswith(sign)), None)
    return shard.open("rb") if opener is None else opener(shard, "rb")  # type: ignore[return-value]


def _unreadable(shard: Path, error: Exception) -> UserError:
    return UserError(f"cannot be read as a tar file: {error}", file=shard)

"""Local and remote folders by URL (``s3://``, ``gs://``, ``file://``, …), through pyarrow or fsspec."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs

from gaptune.errors import UserError, first_line
from gaptune.storage.atomic import PARTIAL, replacing

_FORM = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/*)(.*)", re.DOTALL)
_SAFE = "/%:@!$&'()*+,;=~?#"
_HERE = fs.LocalFileSystem()

_BLOCK = 2**24
"""Bytes that are read at a time."""


def is_url(reference: str) -> bool:
    """Whether a reference is a URL and not a path."""
    return "://" in reference


class Folder:
    """A local or remote folder with atomic writes.

    Args:
        url: A URL such as ``s3://bucket/sweeps`` or ``file:///mnt/share/sweeps``, or a full path; ``~`` is expanded.

    Raises:
        UserError: No installed file system supports the URL's scheme, or the URL is malformed.
    """

    def __init__(self, url: str) -> None:
        self.url = as_url(url)
        try:
            self._files, self._root = _resolve(self.url)
        except (ImportError, ValueError, pa.ArrowInvalid, OSError) as error:
            raise UserError(f"cannot open {url}: {first_line(error)}") from None
        except TypeError:  # from fsspec, for a scheme such as ftp that needs more than a path
            raise UserError(f"cannot open {url}: this kind of storage needs more than a URL") from None

    def put(self, file: Path, name: str) -> None:
        """Copies a local file to the folder.

        Args:
            file: Path of the local file.
            name: Path in the folder.

        Raises:
            OSError: The storage is unreachable, is full, or denies access.
        """
        with self._replacing(name) as partial:
            fs.copy_files(str(file), partial, source_filesystem=_HERE, destination_filesystem=self._files)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file in the folder.

        Args:
            name: Path in the folder.
            content: The whole content.

        Raises:
            OSError: The storage is unreachable, is full, or denies access.
        """
        with self._replacing(name) as partial, self._files.open_output_stream(partial) as stream:
            stream.write(content)

    @contextmanager
    def _replacing(self, name: str) -> Iterator[str]:
        """A temporary path that replaces the file once it is complete."""
        target = f"{self._root}/{name}"
        self._files.create_dir(target.rpartition("/")[0], recursive=True)
        partial = f"{target}.{uuid.uuid4().hex[:8]}{PARTIAL}"
        try:
            yield partial
            self._files.move(partial, target)
        except OSError:
            if self._files.get_file_info(partial).type is not fs.FileType.NotFound:
                self._files.delete_file(partial)
            raise

    def get(self, name: str, file: Path) -> bool:
        """Copies a file of the folder to this machine.

        Args:
            name: Path in the folder.
            file: Local path to write.

        Returns:
            Whether the file exists in the folder.
        """
        path = f"{self._root}/{name}"
        if self._files.get_file_info(path).type is not fs.FileType.File:
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            fs.copy_files(path, str(partial), source_filesystem=self._files, destination_filesystem=_HERE)
        return True

    def blocks(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The content of a file from a position on, block by block.

        Args:
            name: Path in the folder.
            start: Bytes to leave out.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: The storage is unreachable, or denies access.
        """
        path = f"{self._root}/{name}"
        if self._files.get_file_info(path).type is not fs.FileType.File:
            raise FileNotFoundError(f"there is no {name} in {self.url}")
        with self._files.open_input_file(path) as stream:
            stream.seek(start)
            while block := stream.read(_BLOCK):
                yield block

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it does not exist."""
        path = f"{self._root}/{name}"
        if self._files.get_file_info(path).type is not fs.FileType.File:
            return None
        with self._files.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def names(self, under: str = "") -> list[str]:
        """Sorted names of the complete files directly in a subfolder."""
        where = fs.FileSelector(f"{self._root}/{under}".rstrip("/"), allow_not_found=True)
        found = [info.base_name for info in self._files.get_file_info(where) if info.type is fs.FileType.File]
        return sorted(name for name in found if not name.endswith(PARTIAL))

    def folders(self, under: str = "") -> list[str]:
        """Sorted names of the folders directly in a subfolder."""
        where = fs.FileSelector(f"{self._root}/{under}".rstrip("/"), allow_not_found=True)
        return sorted(info.base_name for info in self._files.get_file_info(where) if info.type is fs.FileType.Directory)

    def tree(self, under: str = "") -> dict[str, int]:
        """Sizes of all complete files in a subfolder at any depth, by their paths relative to it."""
        top = f"{self._root}/{under}".rstrip("/")
        found = self._files.get_file_info(fs.FileSelector(top, allow_not_found=True, recursive=True))
        files = {info.path.lstrip("/"): info.size for info in found if info.type is fs.FileType.File}
        before = f"{top}/".lstrip("/")
        return {path.removeprefix(before): n for path, n in files.items() if not path.endswith(PARTIAL)}

    def delete(self, name: str) -> None:
        """Deletes an existing file."""
        self._files.delete_file(f"{self._root}/{name}")


def as_url(place: str) -> str:
    """A URL or a path as a quoted URL.

    Args:
        place: A URL, or a full path; ``~`` is expanded.

    Raises:
        UserError: It is neither a valid URL nor a full path.
    """
    found = _FORM.match(place)
    if found is None:
        try:
            path = Path(place).expanduser()
        except RuntimeError:
            raise UserError(f"cannot open {place}: no such user") from None
        if not path.is_absolute():
            raise UserError(f"cannot open {place}: expected a URL or a full path")
        return path.as_uri()
    scheme, slashes, rest = found.groups()
    if scheme == "file":
        if slashes not in ("/", "///"):
            raise UserError(f"cannot open {place}: expected file:///FULL/PATH, without ~ or a host name")
        slashes = "///"
    if len(slashes) < 2:
        raise UserError(f"cannot open {place}: expected {scheme}://{rest or 'BUCKET/FOLDER'}")
    return f"{scheme}:{slashes}{quote(rest, safe=_SAFE)}".rstrip("/")


def _resolve(url: str) -> tuple[fs.FileSystem, str]:
    try:
        files, root = fs.FileSystem.from_uri(url)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # not supported by pyarrow itself
        import fsspec

        scheme, _, rest = url.partition("://")
        files, root = fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme))), unquote(rest)
    return files, root.rstrip("/")

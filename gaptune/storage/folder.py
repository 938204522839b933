"""Folders anywhere: local paths, and URLs that pyarrow or fsspec knows (``s3://``, ``gs://``, ``file://``, …)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs

from gaptune.errors import UserError
from gaptune.storage.atomic import PARTIAL, replacing

_FORM = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/*)(.*)", re.DOTALL)
_SAFE = "/%:@!$&'()*+,;=~?#"
_HERE = fs.LocalFileSystem()


def is_url(reference: str) -> bool:
    """Whether a reference names a place by URL rather than by path."""
    return "://" in reference


class Folder:
    """A folder by URL. What is put there is whole or not there at all; reading copies to this machine.

    Args:
        url: Such as ``s3://bucket/sweeps`` or ``file:///mnt/share/sweeps``; or a path, in which ``~`` is expanded.

    Raises:
        UserError: No installed file system knows the URL's scheme, or it has another form.
    """

    def __init__(self, url: str) -> None:
        self.url = as_url(url)
        try:
            self._files, self._root = _resolve(self.url)
        except (ImportError, ValueError, pa.ArrowInvalid, OSError) as error:
            raise UserError(f"cannot open {url}: {str(error).splitlines()[0]}") from None
        except TypeError:  # fsspec's, of a scheme such as ftp, which takes more than a path
            raise UserError(f"cannot open {url}: a URL alone is not enough for this kind of storage") from None

    def put(self, file: Path, name: str) -> None:
        """Copies a local file there.

        Args:
            file: The file.
            name: Its path in the folder.

        Raises:
            OSError: The place cannot be reached, is full, or refuses.
        """
        with self._replacing(name) as partial:
            fs.copy_files(str(file), partial, source_filesystem=_HERE, destination_filesystem=self._files)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file there.

        Args:
            name: Its path in the folder.
            content: All of it.

        Raises:
            OSError: The place cannot be reached, is full, or refuses.
        """
        with self._replacing(name) as partial, self._files.open_output_stream(partial) as stream:
            stream.write(content)

    @contextmanager
    def _replacing(self, name: str) -> Iterator[str]:
        """Another name to write to, which takes the file's place once all is written."""
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
        """Copies a file to this machine, in one step.

        Args:
            name: Its path in the folder.
            file: Where it goes.

        Returns:
            Whether it was there.
        """
        path = f"{self._root}/{name}"
        if self._files.get_file_info(path).type is not fs.FileType.File:
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            fs.copy_files(path, str(partial), source_filesystem=self._files, destination_filesystem=_HERE)
        return True

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        path = f"{self._root}/{name}"
        if self._files.get_file_info(path).type is not fs.FileType.File:
            return None
        with self._files.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def names(self, under: str = "") -> list[str]:
        """The files directly in a folder of it, whole ones only, in order."""
        where = fs.FileSelector(f"{self._root}/{under}".rstrip("/"), allow_not_found=True)
        found = [info.base_name for info in self._files.get_file_info(where) if info.type is fs.FileType.File]
        return sorted(name for name in found if not name.endswith(PARTIAL))

    def folders(self, under: str = "") -> list[str]:
        """The names of the folders directly in a folder of it, in order."""
        where = fs.FileSelector(f"{self._root}/{under}".rstrip("/"), allow_not_found=True)
        return sorted(info.base_name for info in self._files.get_file_info(where) if info.type is fs.FileType.Directory)

    def tree(self, under: str = "") -> dict[str, int]:
        """The sizes of all files in a folder of it at any depth, by their paths from there; whole ones only."""
        top = f"{self._root}/{under}".rstrip("/")
        found = self._files.get_file_info(fs.FileSelector(top, allow_not_found=True, recursive=True))
        files = {info.path.lstrip("/"): info.size for info in found if info.type is fs.FileType.File}
        before = f"{top}/".lstrip("/")
        return {path.removeprefix(before): n for path, n in files.items() if not path.endswith(PARTIAL)}

    def delete(self, name: str) -> None:
        """Removes a file that is there."""
        self._files.delete_file(f"{self._root}/{name}")


def as_url(place: str) -> str:
    """A place as a URL, with what no URL may hold, such as a space, quoted.

    Args:
        place: A URL, or a full path, in which ``~`` is expanded.

    Raises:
        UserError: It is neither.
    """
    found = _FORM.match(place)
    if found is None:
        try:
            path = Path(place).expanduser()
        except RuntimeError:
            raise UserError(f"cannot open {place}: there is no such user") from None
        if not path.is_absolute():
            raise UserError(f"cannot open {place}: expected a URL, or a full path")
        return path.as_uri()
    scheme, slashes, rest = found.groups()
    if scheme == "file":
        if slashes not in ("/", "///"):
            raise UserError(f"cannot open {place}: expected file:///FULL/PATH; ~ and host names are not known in a URL")
        slashes = "///"
    if len(slashes) < 2:
        raise UserError(f"cannot open {place}: expected {scheme}://{rest or 'BUCKET/FOLDER'}")
    return f"{scheme}:{slashes}{quote(rest, safe=_SAFE)}".rstrip("/")


def _resolve(url: str) -> tuple[fs.FileSystem, str]:
    try:
        files, root = fs.FileSystem.from_uri(url)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # not one of pyarrow's own
        import fsspec

        scheme, _, rest = url.partition("://")
        files, root = fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme))), unquote(rest)
    return files, root.rstrip("/")

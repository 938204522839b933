"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gaptune.errors import UserError
from gaptune.storage.paths import error_text, is_full


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Another name to write a file under, which takes the file's place when all is written.

    Args:
        path: The file.

    Raises:
        UserError: It cannot be written; nothing of it is left then.
    """
    path = path.resolve()  # a link stays one
    # Of another process, on another machine too, it must differ; the ending decides the form of pictures.
    partial = path.with_name(f".{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name[-100:]}")
    try:
        yield partial
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe: what stays where it is
            shutil.copyfile(partial, path)
        else:
            partial.replace(path)
    except OSError as error:
        if is_full(error):
            raise
        raise UserError(f"cannot write {path}: {error_text(error)}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)

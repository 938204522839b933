"""Image files: which are read, how one becomes an RGB image, and in a few words why one cannot be read.

Images are taken as they are stored, as open_clip takes them: not turned by their EXIF rotation, and with transparency
dropped (what is transparent has the color that is stored there). Of several frames the first is taken.
"""

from __future__ import annotations

import io
import os
import re
import stat
import unicodedata
from pathlib import Path
from threading import Lock
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

FORMATS = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""The formats that are read, by Pillow's names, and the endings of their files. What a file holds counts, not how its
name ends. Formats that run a program or a script (EPS, PDF, WMF) are never read."""

ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
"""Endings of image files."""

MOST_PIXELS = 2 * 89_478_485
"""Pixels of an image; Pillow refuses more."""

MOST_BYTES = 2**30
"""Bytes of an image file."""

_LARGE = 2**25  # pixels of an image that is decoded alone, so that several do not fill the memory
_one_large = Lock()

_OTHERS = (  # what files that are called images often are
    (b"<!doctype", "HTML"),
    (b"<html", "HTML"),
    (b"<?xml", "XML or SVG"),
    (b"<svg", "SVG"),
    (b"version https://git-lfs", "a pointer of Git LFS"),
    (b"%pdf", "PDF"),
    (b"%!ps", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"\x1f\x8b", "gzip"),
    (b"pk\x03\x04", "zip"),
    (b"8bps", "Photoshop"),
    (b"{", "JSON"),
)


class UnreadableError(Exception):
    """Why an image cannot be read.

    Args:
        kind: Such as ``missing``: images are counted by it.
        detail: Further information, such as the place where it was expected.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(f"{kind} ({detail})" if detail else kind)


def inside(
    folder: Path, path: str, *, outside: bool = False, hint: str = "`gaptune data build` reads it with --allow-outside"
) -> Path | UnreadableError:
    """The place of an image that a file names relative to a folder, or why it is not looked for.

    Links are not followed: what lies in the folder may be a link to elsewhere, as in the caches of hubs.

    Args:
        folder: The folder.
        path: As the file names it.
        outside: Whether images may lie outside the folder: an absolute path, or one with ``..``.
        hint: Advice for the user.
    """
    if re.match(r"[a-z][a-z0-9+.-]+://", path, re.IGNORECASE):
        return UnreadableError("an address", "images are not downloaded: give files")
    place = Path(os.path.normpath(folder / path))
    if outside or place.is_relative_to(os.path.normpath(folder)):
        return folder / path
    return UnreadableError("outside the folder", f"not in {folder}{'; ' if hint else ''}{hint}")


def is_image(path: Path) -> bool:
    """Whether a file is an image by the ending of its name."""
    return path.suffix.lower() in ENDINGS


def found(path: Path) -> Path:
    """The path, or where it does not exist a file whose name means the same.

    These are names with ``%20`` and the like, and Unicode in another form (NFC, NFD).
    """
    if not os.path.lexists(path):
        text = str(path)
        for plain in dict.fromkeys((text, unquote(text))):
            for form in (None, "NFC", "NFD"):
                other = Path(unicodedata.normalize(form, plain) if form else plain)
                if other.exists():
                    return other
    return path


def read_file(path: Path) -> bytes:
    """The content of an image's file.

    Raises:
        UnreadableError: It is missing, no regular file (a folder, a device, a pipe), too large, or may not be read.
    """
    try:
        descriptor = os.open(found(path), os.O_RDONLY | os.O_NONBLOCK)  # a pipe that nobody writes to would block
    except (FileNotFoundError, NotADirectoryError):
        raise UnreadableError("missing", _looked_for(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UnreadableError("cannot be opened", getattr(error, "strerror", None) or str(error)) from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise UnreadableError("not a file", "a folder" if stat.S_ISDIR(state.st_mode) else "a device or a pipe")
        if state.st_size > MOST_BYTES:
            raise UnreadableError("too large", f"{state.st_size / 2**30:.1f} GiB, at most {MOST_BYTES >> 30}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MOST_BYTES)
    except OSError as error:
        raise UnreadableError("cannot be opened", error.strerror or str(error)) from None
    finally:
        os.close(descriptor)


def decode(content: bytes) -> Image.Image:
    """An RGB image from the bytes of a file.

    Args:
        content: The file.

    Raises:
        UnreadableError: It is no image of a known format, damaged, cut short, or too large.
    """
    if not content:
        raise UnreadableError("empty")
    try:
        with Image.open(io.BytesIO(content), formats=list(FORMATS)) as opened:
            if opened.width * opened.height <= _LARGE:
                return to_rgb(opened)
            with _one_large:
                return to_rgb(opened)
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError("not an image", _guess(content)) from None
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        size = f"{int(pixels[0]) / 1e6:.0f} megapixels, " if pixels else ""
        raise UnreadableError("too large", f"{size}at most {MOST_PIXELS / 1e6:.0f}") from None
    except Exception as error:  # decoders raise whatever they like: RuntimeError, struct.error, MemoryError, …
        raise UnreadableError(*_said(error)) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode in RGB with eight bits; deeper modes are scaled.

    Sixteen bits go from 0 to 65535 (TIFF: from 0 to what its bits can hold). Floats and whole numbers of 32 bits do not
    say their range: it is the first of 0 to 1 (floats), 0 to 255, 0 to 65535, and 0 to 4294967295 (whole numbers) that
    holds all values.

    Raises:
        UnreadableError: Values are negative, larger, or not numbers.
    """
    if not image.mode.startswith(("I", "F")):
        return image.convert("RGB")
    values = np.asarray(image)
    most = 2.0**16 - 1
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if image.mode.startswith("I;16"):
        most = 2.0 ** min(int(tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]), 16) - 1
    elif image.format != "PPM" or image.mode == "F":  # of PPM, Pillow scales whole numbers to 65535
        if image.mode == "I" and tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == 1:
            values = values.view(np.uint32)  # Pillow reads them as if they had signs
        most = _range(values, floats=image.mode == "F")
    scaled = np.minimum(values / most, 1) * 255
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # white is 0; Pillow turns eight bits only
        scaled = 255 - scaled
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")


def _range(values: npt.NDArray[np.generic], *, floats: bool) -> float:
    least, largest = float(values.min()), float(values.max())
    for most in (1.0,) * floats + (2.0**8 - 1, 2.0**16 - 1) + (2.0**32 - 1,) * (not floats):
        if least >= 0 and largest <= most:
            return most
    raise UnreadableError("unknown range", f"values from {least:g} to {largest:g}")


def _looked_for(path: Path) -> str:
    if path.is_symlink():
        return "a link to nothing"
    return f"not in {path.parent}" if path.parent.is_dir() else f"there is no folder {path.parent}"


def _guess(content: bytes) -> str:
    start = content[:64].lstrip().lower()
    if content[4:8] == b"ftyp":
        return "HEIF or a video"
    if not any(content):
        return "only zeros"
    return next((name for sign, name in _OTHERS if start.startswith(sign)), "of none of the formats that are read")


def _said(error: Exception) -> tuple[str, str]:
    """A kind and a detail for what a decoder raised."""
    text = (str(error).splitlines() or [""])[0][:100]
    if isinstance(error, MemoryError):
        return "too large", "does not fit in memory"
    if isinstance(error, OSError | EOFError | SyntaxError) and ("truncated" in text.lower() or "EOF" in text):
        return "cut short", ""
    if "too large" in text.lower():  # texts of a PNG that grow when they are unpacked
        return "too large", text
    return "damaged", text or type(error).__name__

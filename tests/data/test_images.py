"""Image files: which are read and how, and why one is not."""

import os
import struct
import unicodedata
import zlib

import numpy as np
import pytest
from coco_files import picture
from image_files import damaged_avif, encoded
from PIL import Image, ImageDraw, PngImagePlugin

from gaptune.data.images import ENDINGS, FORMATS, UnreadableError, decode, inside, read_file
from gaptune.data.open import open_store

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # a build ignores them

RAMP = np.linspace(0, 1, 40)[None].repeat(40, 0)
EIGHT_BITS = np.rint(RAMP * 255)


def pixels(content):
    return np.asarray(decode(content)).astype(int)


def reason(content):
    with pytest.raises(UnreadableError) as caught:
        decode(content)
    return str(caught.value)


def tiff(data, width, height, *, bits, photometric=1, sample_format=1):
    """An uncompressed gray TIFF as Pillow cannot write it."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1), (278, height)]
    tags += [(279, len(data)), (339, sample_format)]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack("<HHIHH", tag, 3, 1, start if tag == 273 else value, 0) for tag, value in sorted(tags)
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


@pytest.mark.parametrize("form", FORMATS)
def test_every_documented_format_is_read(form):
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form in ("JPEG", "AVIF") else {}
    found = pixels(encoded(picture(1, 40, 40), form, **options))
    assert found.shape == (40, 40, 3)
    assert np.abs(found - np.asarray(picture(1, 40, 40))).mean() < (12 if form == "GIF" else 3)


def test_endings_of_all_formats_are_known():
    assert {".jpg", ".JPEG".lower(), ".jpe", ".jfif", ".png", ".webp", ".avif", ".pgm", ".pnm", ".jp2"} <= set(ENDINGS)
    known = {ending: form for ending, form in Image.registered_extensions().items() if form in FORMATS}
    assert set(known) <= set(ENDINGS), "what Pillow writes by an ending is found by it"
    assert not {".eps", ".pdf", ".ps", ".wmf", ".svg"} & set(ENDINGS)


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)), "PNG"),
        encoded(Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)), "TIFF"),
        encoded(Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)), "JPEG2000"),
        b"P5 40 40 65535\n" + np.rint(RAMP * 65535).astype(">u2").tobytes(),
        b"P5 40 40 1023\n" + np.rint(RAMP * 1023).astype(">u2").tobytes(),
        tiff(np.rint(RAMP * 65535).astype("<u2").tobytes(), 40, 40, bits=16),
        tiff(np.rint((1 - RAMP) * 65535).astype("<u2").tobytes(), 40, 40, bits=16, photometric=0),
        tiff(np.rint(RAMP * (2**32 - 1)).astype("<u4").tobytes(), 40, 40, bits=32),
        encoded(Image.fromarray(np.rint(RAMP * 65535).astype(np.int32)), "TIFF"),
        encoded(Image.fromarray(np.rint(RAMP * 255).astype(np.int32)), "TIFF"),
        encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
        encoded(Image.fromarray((RAMP * 255).astype(np.float32)), "TIFF"),
        encoded(Image.fromarray((RAMP * 65535).astype(np.float32)), "TIFF"),
        encoded(Image.fromarray(RAMP.astype(np.float32)), "PPM"),
    ],
    ids=[
        *("png-16", "tiff-16", "jp2-16", "pgm-16", "pgm-10", "tiff-16-raw", "tiff-16-white-is-zero", "tiff-u32"),
        *("tiff-i32", "tiff-i32-small", "tiff-float", "tiff-float-255", "tiff-float-65535", "pfm"),
    ],
)
def test_deep_grays_are_scaled_and_not_clipped(content):
    found = pixels(content)
    assert np.abs(found - EIGHT_BITS[..., None]).max() <= 1
    assert (found[..., 0] == found[..., 2]).all()


def test_twelve_bits_go_from_black_to_white():
    values = [0, 4095, 2048, 1024]
    packed = b"".join(
        bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in zip(values[::2], values[1::2], strict=True)
    )
    assert pixels(tiff(packed, 4, 1, bits=12))[0, :, 0].tolist() == [0, 255, 128, 64]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (RAMP - 0.5, "unknown range (values from -0.5 to 0.5)"),
        (RAMP * 1e6, "unknown range (values from 0 to 1e+06)"),
        (np.full((40, 40), np.nan), "unknown range (values from nan to nan)"),
    ],
)
def test_floats_of_no_known_range_are_not_guessed(values, said):
    assert reason(encoded(Image.fromarray(values.astype(np.float32)), "TIFF")) == said


def test_images_are_taken_as_they_are_stored():
    """Not turned by EXIF, and without transparency: as open_clip takes them."""
    image = Image.new("RGB", (40, 40), "red")
    image.paste("blue", (0, 20, 40, 40))
    exif = Image.Exif()
    exif[0x112] = 6
    found = pixels(encoded(image, "JPEG", exif=exif, quality=95))
    assert found[5, 20, 0] > 200
    assert found[35, 20, 2] > 200
    drawing = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    ImageDraw.Draw(drawing).ellipse((10, 10, 30, 30), fill=(0, 0, 0, 255))
    assert (pixels(encoded(drawing, "PNG")) == 0).all()
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    assert (pixels(encoded(palette, "PNG", transparency=1)) == [10, 200, 30]).all()
    for mode in ("LA", "CMYK", "1"):
        form = "TIFF" if mode == "CMYK" else "PNG"
        assert (pixels(encoded(Image.new("RGB", (8, 8), "white").convert(mode), form)) == 255).all()


def bomb(width, height):
    """A PNG of a few bytes that says it is large."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def text_bomb():
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * 10**8, zip=True)
    return encoded(picture(1), "PNG", pnginfo=info)


NOISE = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)), "JPEG")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (NOISE[:9000], "cut short"),
        (encoded(picture(1), "PNG")[:100], "cut short"),
        (encoded(picture(1), "WEBP")[:60], "damaged"),
        (encoded(picture(1), "TIFF")[:60], "not an image"),
        (b"  <!DOCTYPE html><html>404</html>", "not an image (HTML)"),
        (b"<?xml version='1.0'?><svg/>", "not an image (XML or SVG)"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "not an image (a pointer of Git LFS)"),
        (EPS, "not an image (PostScript)"),
        (b"\xc5\xd0\xd3\xc6" + bytes(40), "not an image (PostScript)"),
        (b"%PDF-1.7 1 0 obj", "not an image (PDF)"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "not an image (HEIF or a video)"),
        (bytes(100), "not an image (only zeros)"),
        (b"words", "not an image (of none of the formats that are read)"),
        (bomb(20_000, 10_000), "too large (200 megapixels, at most 179)"),
        (text_bomb(), "too large"),
        (damaged_avif(), "damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unreadable_image_has_a_short_reason(content, said):
    assert reason(content).startswith(said)


def test_exception_in_a_decoder_skips_only_that_image(monkeypatch):
    content = encoded(picture(1), "PNG")
    for error, said in ((struct.error("x"), "damaged (x)"), (MemoryError(), "too large (does not fit in memory)")):

        def raising(self, error=error):
            raise error

        monkeypatch.setattr(Image.Image, "load", raising)
        assert reason(content) == said


# Where they lie


def why_not(path):
    with pytest.raises(UnreadableError) as caught:
        read_file(path)
    return str(caught.value)


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"content")
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "dead.png").symlink_to("gone.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    assert read_file(tmp_path / "link.png") == b"content"
    assert why_not(tmp_path / "dead.png") == "missing (a link to nothing)"
    assert why_not(tmp_path / "gone.png") == f"missing (not in {tmp_path})"
    assert why_not(tmp_path / "no" / "gone.png") == f"missing (there is no folder {tmp_path / 'no'})"
    assert why_not(tmp_path / "a.png" / "x.png").startswith("missing")
    assert why_not(tmp_path / "loop.png").startswith("cannot be opened")
    assert why_not(tmp_path / "folder.png") == "not a file (a folder)"
    for name in ("pipe.png", "zero.png"):
        assert why_not(tmp_path / name) == "not a file (a device or a pipe)"
    assert why_not(tmp_path / "a\0.png").startswith("cannot be opened")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(3 * 2**30)
    assert why_not(tmp_path / "huge.png") == "too large (3.0 GiB, at most 1)"


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("a%20b.png", "a b.png"),
        ("caf%C3%A9.png", "caf\u00e9.png"),
        ("caf\u00e9.png", unicodedata.normalize("NFD", "caf\u00e9.png")),
        (unicodedata.normalize("NFD", "caf\u00e9.png"), "caf\u00e9.png"),
        ("caf%C3%A9 2.png", unicodedata.normalize("NFD", "caf\u00e9 2.png")),
    ],
)
def test_equivalent_file_name_is_found(named, there, tmp_path):
    (tmp_path / there).write_bytes(b"there")
    assert read_file(tmp_path / named) == b"there"
    (tmp_path / named).write_bytes(b"literal")
    assert read_file(tmp_path / named) == b"literal"


@pytest.mark.parametrize("path", ["/etc/hostname", "../x.png", "a/../../x.png", "a/../../{name}x/y.png"])
def test_no_image_outside_the_folder_is_read_unless_asked(path, tmp_path):
    path = path.replace("{name}", tmp_path.name)
    found = inside(tmp_path, path)
    assert isinstance(found, UnreadableError)
    assert str(found) == f"outside the folder (not in {tmp_path}; `gaptune data build` reads it with --allow-outside)"
    assert inside(tmp_path, path, outside=True) == tmp_path / path


@pytest.mark.parametrize("path", ["x.png", "a/x.png", "./a/../x.png", "..x.png"])
def test_image_in_the_folder_is_read(path, tmp_path):
    assert inside(tmp_path, path) == tmp_path / path
    assert inside(tmp_path, str(tmp_path / path)) == tmp_path / path


def test_store_is_rebuilt_when_an_image_found_by_another_name_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a b.png").write_bytes(encoded(picture(1), "PNG"))
    (tmp_path / "c.csv").write_text("filepath,title\na%20b.png,words\n")
    reference = f"csv:{tmp_path / 'c.csv'}"
    first = open_store(reference, image_size=16, context_length=8)
    assert open_store(reference, image_size=16, context_length=8).path == first.path
    (tmp_path / "a b.png").write_bytes(encoded(picture(2), "PNG"))
    again = open_store(reference, image_size=16, context_length=8)
    assert again.meta.content_hash != first.meta.content_hash


@pytest.mark.parametrize("path", ["https://example.org/a.jpg", "s3://bucket/a.jpg", "HTTP://example.org/b"])
def test_url_is_not_searched_for_in_a_folder(tmp_path, path):
    found = inside(tmp_path, path, outside=True)
    assert str(found) == "an address (images are not downloaded: give files)"

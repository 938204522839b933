"""A page of random pairs as they are stored, to check that images and captions belong together."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gaptune.data.store.reader import Store
from gaptune.storage.atomic import written_whole
from gaptune.text.markup import for_html

_CAPTIONS = 5  # of an image
_COLUMNS, _WIDTH, _GAP = 6, 192, 12  # of the sheet, in cells and in pixels
_SIZE, _LINE, _LINES = 12, 16, 12  # of its text
_NO_IMAGES = "a store of features has no images"


@dataclass(frozen=True)
class Pair:
    """An image of a store with its captions.

    Attributes:
        id: Name of the image.
        pixels: uint8, shape (side, side, 3); None in a store of features.
        captions: The first captions.
        more: Number of further captions.
        label: Name of the class; empty without one.
    """

    id: str
    pixels: npt.NDArray[np.uint8] | None
    captions: tuple[str, ...]
    more: int
    label: str

    def texts(self) -> list[tuple[str, str]]:
        """The lines below its image, each with its kind: captions, how many more, the label, the name."""
        return [
            *(("caption", caption) for caption in self.captions),
            *([("id", f"and {self.more} more")] if self.more else []),
            *([("label", f"label: {self.label}")] if self.label else []),
            ("id", self.id),
        ]


def random_pairs(store: Store, split: str, *, count: int, seed: int) -> list[Pair]:
    """Random images of a split, each once, in their order.

    Args:
        store: The store.
        split: The split.
        count: Largest number of images.
        seed: Random seed.

    Raises:
        UserError: There is no such split, or its file cannot be read.
    """
    opened, classes = store.split(split), store.meta.classes
    rows = np.sort(np.random.default_rng(seed).permutation(len(opened))[:count])
    images = None if store.meta.features else opened.gather(rows)
    ids = opened.ids
    pairs = []
    for number, row in enumerate(rows.tolist()):
        captions = opened.captions(row)
        label = opened.label(row)
        pairs.append(
            Pair(
                id=ids[row],
                pixels=None if images is None else images[number],
                captions=tuple(captions[:_CAPTIONS]),
                more=max(0, len(captions) - _CAPTIONS),
                label="" if label is None else classes[label] if label < len(classes) else str(label),
            )
        )
    return pairs


def write_page(path: Path, title: str, pairs: Sequence[Pair]) -> None:
    """Writes a page of pairs, as HTML that needs no other file, or as a PNG.

    Args:
        path: The file; its ending says which.
        title: Title of the page.
        pairs: The pairs.

    Raises:
        UserError: The file cannot be written.
    """
    if any(pair.pixels is None for pair in pairs):
        title = f"{title}: {_NO_IMAGES}"
    with written_whole(path) as place:
        if path.suffix.lower() == ".png":
            sheet(title, pairs).save(place)
        else:
            place.write_text(html(title, pairs), encoding="utf-8")


def html(title: str, pairs: Sequence[Pair]) -> str:
    """A page of pairs."""
    cells = "\n".join(_cell(pair) for pair in pairs)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{for_html(title)}</title><style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 24px; color: #222; background: #fff }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 20px }}
img {{ width: 100%; max-width: 256px; image-rendering: auto; display: block; margin-bottom: 6px }}
p {{ margin: 0 0 4px; overflow-wrap: anywhere }}
.label {{ color: #06c }} .id {{ color: #777; font-size: 12px }}
</style></head><body><h1>{for_html(title)}</h1><main>
{cells}
</main></body></html>
"""


def _cell(pair: Pair) -> str:
    image = "" if pair.pixels is None else f'<img alt="" src="data:image/png;base64,{_png(pair.pixels)}">'
    lines = "".join(f'<p class="{kind}">{for_html(text)}</p>' for kind, text in pair.texts())
    return f"<div>{image}{lines}</div>"


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def sheet(title: str, pairs: Sequence[Pair]) -> Image.Image:
    """A contact sheet of pairs. Its font knows Latin, Greek and Cyrillic; HTML shows all scripts."""
    import matplotlib

    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", _SIZE)
    rows = [pairs[start : start + _COLUMNS] for start in range(0, len(pairs), _COLUMNS)]
    texts = [[_wrapped(_lines(pair), font) for pair in row] for row in rows]
    shown = 0 if any(pair.pixels is None for pair in pairs) else _WIDTH + 4
    heights = [shown + _LINE * max(map(len, row)) + 2 * _GAP for row in texts]
    columns = min(_COLUMNS, len(pairs))
    page = Image.new("RGB", (_GAP + columns * (_WIDTH + _GAP), 3 * _GAP + _LINE + sum(heights)), "white")
    draw = ImageDraw.Draw(page)
    draw.text((_GAP, _GAP), _wrapped([title], font, page.width - 2 * _GAP)[0], "black", font)
    top = 2 * _GAP + _LINE
    for row, lines, height in zip(rows, texts, heights, strict=True):
        for column, (pair, said) in enumerate(zip(row, lines, strict=True)):
            left = _GAP + column * (_WIDTH + _GAP)
            if pair.pixels is not None:
                page.paste(Image.fromarray(pair.pixels).resize((_WIDTH, _WIDTH)), (left, top))
            for number, line in enumerate(said):
                draw.text((left, top + shown + number * _LINE), line, "black", font)
        top += height
    return page


def _lines(pair: Pair) -> list[str]:
    return [f"• {text}" if kind == "caption" else text for kind, text in pair.texts()]


def _wrapped(texts: Sequence[str], font: ImageFont.FreeTypeFont, width: int = _WIDTH) -> list[str]:
    """Texts wrapped to the width of a cell, as many as fit; the last text is always included."""
    lines: list[str] = []
    for text in texts:
        line = ""
        for word in text[:1000].split():
            joined = f"{line} {word}" if line else word
            if line and font.getlength(joined) > width:
                lines.append(line)
                joined = word
            while font.getlength(joined) > width:  # a word that is wider than a cell
                fits = next(n for n in range(len(joined) - 1, 0, -1) if n == 1 or font.getlength(joined[:n]) <= width)
                lines.append(joined[:fits])
                joined = joined[fits:]
            line = joined
        lines.append(line)
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 2], "…", lines[-1]]

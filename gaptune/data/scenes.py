"""The embedded data: procedural scenes of colored shapes with imperfect captions, made on first use.

A scene has one to three objects on a background. Captions are built from templates with synonyms and leave
out attributes at random, as people do, so that many captions fit several images. The splits ``probe_train``
and ``probe_test`` have one object each, labeled by its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gaptune.data.store.meta import META
from gaptune.data.store.reader import Store, read_store
from gaptune.data.store.writer import StoreWriter
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.storage.cache import cache_folder

VERSION = 1
"""Part of the cached folder's name: raise it whenever anything below changes the images or captions."""

SIDE = 32
CONTEXT_LENGTH = 16
SPLITS = {"train": 5_000, "val": 512, "probe_train": 1_000, "probe_test": 1_000}

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

# Each shape as a test on coordinates (u to the right, v down) that run from -1 to 1 across the object.
SHAPES: dict[str, Callable[[Floats, Floats], Bools]] = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 0.86,
    "triangle": lambda u, v: (v <= 0.8) & (abs(u) <= (v + 1) * 0.55),
    "diamond": lambda u, v: abs(u) + abs(v) <= 1.05,
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 0.3) & (np.maximum(abs(u), abs(v)) <= 1),
    "ring": lambda u, v: (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.3),
    "star": lambda u, v: np.hypot(u, v) <= 0.62 + 0.42 * np.cos(5 * np.arctan2(u, -v)),
    "heart": lambda u, v: (u * 1.15) ** 2 + (-v * 1.2 + 0.15 - np.sqrt(abs(u)) * 0.75) ** 2 <= 0.95,
    "crescent": lambda u, v: (u**2 + v**2 <= 1) & ((u - 0.5) ** 2 + v**2 >= 0.62),
    "bar": lambda u, v: (abs(u) <= 1.05) & (abs(v) <= 0.32),
}
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 165, 60),
    "blue": (45, 85, 220),
    "yellow": (240, 220, 50),
    "orange": (245, 140, 30),
    "purple": (140, 60, 180),
    "pink": (250, 140, 190),
    "cyan": (60, 205, 220),
    "brown": (130, 80, 40),
    "white": (245, 245, 245),
}
SIZES: dict[str, float] = {"small": 5.0, "medium": 7.0, "large": 10.0}
TEXTURES = ("plain", "striped", "dotted")
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (15, 15, 20),
    "gray": (120, 120, 125),
    "sandy": (205, 185, 140),
    "grassy": (85, 120, 70),
    "dusky": (60, 50, 90),
    "pale": (200, 215, 225),
}

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "box"),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop"),
    "crescent": ("crescent", "moon"),
    "bar": ("bar", "stick"),
    "small": ("small", "little", "tiny"),
    "large": ("large", "big", "huge"),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise"),
    "striped": ("striped", "lined"),
    "dotted": ("dotted", "spotted"),
}
_ARTICLE = {"orange": "an"}
PROMPTS = ("a {}", "there is a {}", "we see a {}")


@dataclass(frozen=True)
class Scenes:
    """Attributes of n scenes with up to three objects: indices into the tables above, shape (n, 3).

    Attributes:
        count: Objects per scene, shape (n,).
        background: Shape (n,).
        shape: Shape of each object.
        color: Color of each object.
        size: Size of each object.
        texture: Texture of each object.
        x: Center in pixels from the left.
        y: Center in pixels from the top.
    """

    count: npt.NDArray[np.int64]
    background: npt.NDArray[np.int64]
    shape: npt.NDArray[np.int64]
    color: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    texture: npt.NDArray[np.int64]
    x: Floats
    y: Floats


def draw_attributes(rng: np.random.Generator, n: int, most_objects: int) -> Scenes:
    """Draws what is in n scenes; where there are several objects, each has its own quarter of the image."""
    count = np.minimum(rng.choice([1, 2, 3], n, p=[0.5, 0.35, 0.15]), most_objects)
    quarters = rng.permuted(np.tile(np.arange(4), (n, 1)), axis=1)[:, :3]
    jitter = rng.uniform(-2.5, 2.5, (2, n, 3))
    alone = (count == 1)[:, None]
    spread = rng.uniform(11, SIDE - 11, (2, n, 3))
    x = np.where(alone, spread[0], 8.5 + 15 * (quarters % 2) + jitter[0])
    y = np.where(alone, spread[1], 8.5 + 15 * (quarters // 2) + jitter[1])
    largest = np.where(alone, len(SIZES), len(SIZES) - 1)  # a large object needs the whole image
    return Scenes(
        count=count,
        background=rng.integers(0, len(BACKGROUNDS), n),
        shape=rng.integers(0, len(SHAPES), (n, 3)),
        color=rng.integers(0, len(COLORS), (n, 3)),
        size=rng.integers(0, largest, (n, 3)),
        texture=rng.integers(0, len(TEXTURES), (n, 3)),
        x=x.astype(np.float32),
        y=y.astype(np.float32),
    )


def paint(scenes: Scenes, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draws scenes as images.

    Returns:
        uint8, shape (n, 32, 32, 3).
    """
    n = len(scenes.count)
    grid = np.arange(SIDE, dtype=np.float32)
    backgrounds = np.array(list(BACKGROUNDS.values()), dtype=np.float32)[scenes.background]
    images = backgrounds[:, None, None, :] + rng.normal(0, 9, (n, SIDE, SIDE, 1)).astype(np.float32)
    palette = np.array(list(COLORS.values()), dtype=np.float32)
    radii = np.array(list(SIZES.values()), dtype=np.float32)
    for slot in range(3):
        for index, inside in enumerate(SHAPES.values()):
            rows = np.flatnonzero((scenes.count > slot) & (scenes.shape[:, slot] == index))
            radius = radii[scenes.size[rows, slot]][:, None, None]
            u = (grid[None, None, :] - scenes.x[rows, slot][:, None, None]) / radius
            v = (grid[None, :, None] - scenes.y[rows, slot][:, None, None]) / radius
            mask = inside(*np.broadcast_arrays(u, v))
            texture = scenes.texture[rows, slot][:, None, None]
            stripes = (texture == 1) & ((grid[None, :, None] % 4) < 2)
            dots = (texture == 2) & ((grid[None, :, None] % 3) == 0) & ((grid[None, None, :] % 3) == 0)
            shade = np.where(stripes | dots, 0.45, 1.0).astype(np.float32)[..., None]
            color = palette[scenes.color[rows, slot]][:, None, None, :] * shade
            images[rows] = np.where(mask[..., None], color, images[rows])
    return images.clip(0, 255).astype(np.uint8)


def caption(scenes: Scenes, row: int, rng: np.random.Generator) -> str:
    """One sentence about a scene: true, but without about half of the attributes."""
    order = rng.permutation(scenes.count[row])
    order = order[: 1 if rng.random() < 0.2 else 2]  # people do not name everything
    things = [_thing(scenes, row, slot, rng) for slot in order]
    joint = _relation(scenes, row, order[0], order[1]) if len(order) > 1 and rng.random() < 0.5 else "and"
    opening = ("", "", "", "there is ", "we see ")[rng.integers(5)]
    background = list(BACKGROUNDS)[scenes.background[row]]
    ending = ("", "", f" on {background}")[rng.integers(3)]
    return opening + f" {joint} ".join(things) + ending


def _thing(scenes: Scenes, row: int, slot: int, rng: np.random.Generator) -> str:
    said = rng.random(4) < (0.35, 0.35, 0.75, 0.92)  # size, texture, color, shape
    size, texture = list(SIZES)[scenes.size[row, slot]], TEXTURES[scenes.texture[row, slot]]
    words = []
    if said[0] and size != "medium":
        words.append(_synonym(size, rng))
    if said[1] and texture != "plain":
        words.append(_synonym(texture, rng))
    if said[2]:
        words.append(_synonym(list(COLORS)[scenes.color[row, slot]], rng))
    if said[3]:
        words.append(_synonym(list(SHAPES)[scenes.shape[row, slot]], rng))
    else:
        words.append(("shape", "thing")[rng.integers(2)])
    return f"{_ARTICLE.get(words[0], 'a')} {' '.join(words)}"


def _relation(scenes: Scenes, row: int, one: int, other: int) -> str:
    dx, dy = scenes.x[row, one] - scenes.x[row, other], scenes.y[row, one] - scenes.y[row, other]
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def _synonym(word: str, rng: np.random.Generator) -> str:
    words = _SYNONYMS.get(word, (word,))
    return words[rng.integers(len(words))] if rng.random() < 0.4 else words[0]


def make_scenes(out: Path, splits: Mapping[str, int] = SPLITS) -> Store:
    """Makes a store of scenes, always the same.

    Args:
        out: The folder to make.
        splits: Number of scenes of each split.

    Raises:
        UserError: It exists.
    """
    prompts = [template.format(shape) for shape in SHAPES for template in PROMPTS]
    with StoreWriter(out, SIDE, CONTEXT_LENGTH) as writer:
        for index, (split, n) in enumerate(splits.items()):
            rng = np.random.default_rng((VERSION, index))
            labeled = split.startswith("probe")
            scenes = draw_attributes(rng, n, most_objects=1 if labeled else 3)
            images = paint(scenes, rng)
            texts = [caption(scenes, row, rng) for row in range(n) for _ in range(1 if labeled else 5)]
            tokens = tokenize(texts, CONTEXT_LENGTH)
            each = len(texts) // n
            for row in range(n):
                mine = slice(row * each, (row + 1) * each)
                label = int(scenes.shape[row, 0]) if labeled else None
                name = f"{split}-{row:05d}"
                writer.add(split, images[row], texts[mine], tokens[mine], id=name, label=label)
        return writer.finish(
            name="scenes",
            source={"builder": "scenes", "version": VERSION},
            classes=list(SHAPES),
            prompts=PROMPTS,
            prompt_tokens=tokenize(prompts, CONTEXT_LENGTH),
        )


def open_scenes() -> Store:
    """The embedded scenes from the cache (``GAPTUNE_CACHE``, else ``~/.cache/gaptune``), made on first use.

    Several processes may ask at once: the first to finish wins, the others use its result.
    """
    out = cache_folder() / f"scenes-v{VERSION}"
    if not (out / META).exists():
        try:
            return make_scenes(out)
        except UserError:
            if not (out / META).exists():
                raise
    return read_store(out)

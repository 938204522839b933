"""COCO captions files and their images, for the tests of what reads them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from gaptune.data.build import build
from gaptune.data.sources import Coco


def picture(seed: int, width=40, height=32) -> Image.Image:
    """Smooth colors, so that JPEG keeps them."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)


def build_coco(*, annotations, images, **options):
    return build(Coco(annotations, images), **options)


class CocoFiles:
    """Captions files and image folders of the splits ``train`` and ``val`` under a folder."""

    def __init__(self, folder: Path, train=6, val=3) -> None:
        self.folder = folder
        self.content = {"train": {"images": [], "annotations": []}, "val": {"images": [], "annotations": []}}
        for split, n in (("train", train), ("val", val)):
            (folder / split).mkdir(parents=True)
            for index in range(n):
                look = picture(index if split == "train" else 1000 + index)  # no picture is in both
                self.add(split, f"{index}.jpg", look, [f"{split} picture {index}", "another caption"])

    def add(self, split: str, name: str, image: Image.Image | bytes | None, captions: list[str]) -> None:
        content = self.content[split]
        number = len(content["images"]) + 1
        content["images"].append({"id": number, "file_name": name})
        content["annotations"] += [{"image_id": number, "caption": caption} for caption in captions]
        if isinstance(image, bytes):
            (self.folder / split / name).write_bytes(image)
        elif image is not None:
            image.save(self.folder / split / name)

    def arguments(self, **changes) -> dict:
        """Arguments of ``build_coco``, after writing the captions files."""
        for split, content in self.content.items():
            (self.folder / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
        return {
            "annotations": {split: self.folder / f"{split}.json" for split in self.content},
            "images": {split: self.folder / split for split in self.content},
            "out": self.folder / "store",
            "image_size": 16,
            "context_length": 12,
            "max_broken": 0.5,
            "progress": lambda done, total: None,
        } | changes

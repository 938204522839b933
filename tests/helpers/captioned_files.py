"""Images with captions as a CSV file or as shards."""

import csv
import io

import webdataset as wds
from coco_files import picture


def encoded(seed, form="PNG"):
    buffer = io.BytesIO()
    picture(seed).save(buffer, form)
    return buffer.getvalue()


def write_shard(path, samples):
    """By the webdataset library, from samples such as ``{"__key__": "a", "jpg": bytes, "txt": str}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wds.TarWriter(str(path), encoder=False) as shard:
        for sample in samples:
            shard.write(
                {
                    name: text if name == "__key__" or isinstance(text, bytes) else text.encode()
                    for name, text in sample.items()
                }
            )
    return path


def samples(numbers):
    return [{"__key__": f"{n:05d}", "png": encoded(n), "txt": f"picture {n}\nanother caption"} for n in numbers]


def write_csv(path, rows, separator=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return path


def write_images(folder, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        (folder / f"{n}.png").write_bytes(encoded(n))
    return folder


def plain_pairs(folder, rows=(("0.png", "1.png", "a", "b"), ("2.png", "0.png", "c", "a"))):
    write_images(folder, range(3))
    write_csv(folder / "pairs.csv", [["image1", "image2", "caption1", "caption2"], *rows])
    return folder

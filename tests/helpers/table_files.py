"""Tables of captions as others write them, with pictures beside them."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coco_files import picture

from gaptune.data.sources import SOURCES, Columns


def png(seed):
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


def write_pictures(folder, count, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:03d}.png" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(png(start + number))
    return names


def write_csv(path, header, rows, separator=",", **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        csv.writer(file, delimiter=separator, **how).writerows([header, *rows])
    return path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="")
    return path


def write_parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pq.write_table(pa.table(columns), path)
    except pa.ArrowNotImplementedError as error:  # views of strings, before pyarrow 20
        pytest.skip(f"this pyarrow: {error}")
    return path


def opened(form, *places, **columns):
    names = columns.pop("captions", ("title",))
    return SOURCES[form].of([str(place) for place in places], Columns(captions=names, **columns))


def read(source):
    """By split: of each row the image (its bytes), captions and label."""
    return {
        split: [
            (each.image.read_bytes() if isinstance(each.image, Path) else each.image, each.captions, each.label)
            for each in source.samples(split)
        ]
        for split in source.splits
    }


def captions(source, split="train"):
    return [each.captions for each in source.samples(split)]


def labels(source, split="train"):
    return [each.label for each in source.samples(split)]

"""Stores for evaluations, built from files by the documented commands."""

import csv

import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner
from coco_files import picture

from gaptune.cli import cli
from gaptune.data.open import open_store


def built(folder, kind, *words):
    """The store that ``gaptune data build KIND WORDS`` makes."""
    options = ["--out", str(folder), "--size", "32", "--context", "16"]
    done = CliRunner().invoke(cli, ["data", "build", kind, *map(str, words), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return open_store(str(folder), image_size=32, context_length=16)


def write_table(folder, name, columns, rows):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="") as lines:
        csv.writer(lines).writerows([columns, *rows])
    return folder / name


def plain_pairs(folder, categories=(), pairs=3):
    """``pairs.csv`` with its images, with categories or without."""
    columns = ["image1", "image2", "caption1", "caption2", *(["category"] if categories else [])]
    rows = []
    for pair in range(pairs):
        names = [f"{pair}{side}.png" for side in "ab"]
        folder.mkdir(parents=True, exist_ok=True)
        for side, name in enumerate(names):
            picture(10 * pair + side).save(folder / name)
        captions = [f"a red circle {pair}", f"a blue square {pair}"]
        rows.append([*names, *captions, *([categories[pair % len(categories)]] if categories else [])])
    write_table(folder, "pairs.csv", columns, rows)
    return folder


def mmvp(folder, pairs=4):
    """Files as MMVP-VLM publishes them."""
    rows = []
    for index in range(2 * pairs):
        kind = "Color" if index < pairs else "Count"
        (folder / "MLLM_VLM Images" / kind).mkdir(parents=True, exist_ok=True)
        picture(index).save(folder / "MLLM_VLM Images" / kind / f"{index + 1}.jpg")
        rows.append([index + 1, kind, f"a circle number {index}"])
    write_table(folder, "Questions.csv", ["Question ID", "Type", "Statement"], rows)
    return folder


def captioned_store(folder, images=6, captions=1, split="test"):
    """Images with captions of their own in one split, from a CSV file."""
    rows = []
    for row in range(images):
        name = f"{row}.png"
        folder.mkdir(parents=True, exist_ok=True)
        picture(row).save(folder / name)
        rows.append([name, *(f"a red circle {row} {index}" for index in range(captions))])
    titles = [f"caption{index}" for index in range(captions)]
    table = write_table(folder, "table.csv", ["filepath", *titles], rows)
    words = [word for title in titles for word in ("--caption", title)]
    return built(folder / "store", "csv", f"{split}={table}", *words)


def labeled_store(folder, splits):
    """Images with a label, or none where it is None, by split, from Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    words = []
    for number, (split, labels) in enumerate(splits.items()):
        names = [f"{split}{row}.png" for row in range(len(labels))]
        for row, name in enumerate(names):
            picture(100 * number + row).save(folder / name)
        columns = {"filepath": names, "title": [f"picture {name}" for name in names], "label": labels}
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
        words.append(f"{split}={folder / split}.parquet")
    return built(folder / "store", "parquet", *words, "--label", "label", "--val-fraction", "0")

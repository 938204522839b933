"""Each source against the suite for all of them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captioned_files import write_csv, write_shard
from labeled_files import write_cifar10
from source_conformance import SourceConformance

from gaptune.data.sources import SOURCES, find_source
from gaptune.errors import UserError


def write_files(folder, images):
    folder.mkdir(parents=True)
    for name, content in images.items():
        (folder / name).write_bytes(content)


class TestCsv(SourceConformance):
    kind = "csv"

    def write(self, folder, images):
        write_files(folder, images)
        write_csv(folder / "t.csv", [["filepath", "title"], *([name, f"a {name}"] for name in images)])
        return str(folder / "t.csv")


class TestJsonl(SourceConformance):
    kind = "jsonl"

    def write(self, folder, images):
        write_files(folder, images)
        lines = (json.dumps({"filepath": name, "title": [f"a {name}", "another"]}) for name in images)
        (folder / "t.jsonl").write_text("\n".join(lines))
        return str(folder / "t.jsonl")


class TestParquet(SourceConformance):
    kind = "parquet"
    files_of_images = False

    def write(self, folder, images):
        folder.mkdir(parents=True)
        table = {"filepath": list(images.values()), "title": [f"a {name}" for name in images], "name": list(images)}
        pq.write_table(pa.table(table), folder / "t.parquet")
        return f"{folder / 't.parquet'}?id=name"


class TestCoco(SourceConformance):
    kind = "coco"

    def write(self, folder, images):
        write_files(folder / "train", images)
        (folder / "annotations").mkdir()
        content = {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(images)],
            "annotations": [{"image_id": number, "caption": f"a {name}"} for number, name in enumerate(images)],
        }
        (folder / "annotations" / "captions_train.json").write_text(json.dumps(content))
        return str(folder)


class TestWebDataset(SourceConformance):
    kind = "webdataset"
    files_of_images = False
    free_names = False  # a dot or space in a key has a meaning of its own

    def write(self, folder, images):
        write_shard(
            folder / "0.tar",
            [{"__key__": f"{n:03d}", "png": image, "txt": f"picture {n}"} for n, image in enumerate(images.values())],
        )
        return str(folder / "0.tar")


class TestImageFolder(SourceConformance):
    kind = "imagefolder"
    by_label = True

    def write(self, folder, images):
        for number, (name, content) in enumerate(images.items()):
            path = folder / "train" / ("dog", "red fox")[number % 2] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return str(folder)


class TestMmvp(SourceConformance):
    kind = "mmvp"

    def write(self, folder, images):
        write_files(folder, images)
        names = list(images)
        rows = [[*names[start : start + 2], "a cat", "a dog"] for start in range(0, len(names), 2)]
        write_csv(folder / "pairs.csv", [["image1", "image2", "caption1", "caption2"], *rows])
        return str(folder)


class TestCifar10(SourceConformance):
    kind = "cifar10"
    files_of_images = False
    free_names = False
    by_label = True

    def write(self, folder, images):
        write_cifar10(folder)
        return str(folder)

    def test_count_is_the_number_of_samples_or_unknown(self, source):
        """The files written here are smaller than the published ones, whose size is known."""
        assert {split: source.count(split) for split in source.splits} == {"train": 50_000, "test": 10_000}

    def test_broken_image_is_counted_and_left_out(self, tmp_path):
        """A batch of pixels has no broken images: it is refused as a whole."""
        place = self.write(tmp_path / "files", {})
        next((tmp_path / "files").rglob("data_batch_2")).write_bytes(b"no batch")
        with pytest.raises(UserError, match="data_batch_2"):
            self.build(tmp_path, place, max_broken=0.9)


def test_every_source_has_its_conformance_tests():
    assert {each.kind for each in SourceConformance.__subclasses__()} == set(SOURCES)


def test_unknown_kind_is_refused_with_the_nearest_one():
    with pytest.raises(UserError, match=r"no data set is of the kind 'csb' \(did you mean 'csv'\?\)"):
        find_source("csb:t.csv")

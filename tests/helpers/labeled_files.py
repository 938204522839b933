"""Labeled images in the forms that others publish them in."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
from coco_files import picture

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_image_folder(folder: Path, splits=("train", "test"), classes=("red_fox", "dog"), each=3) -> Path:
    for s, split in enumerate(splits):
        for c, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for index in range(each):
                picture(100 * s + 10 * c + index).save(folder / split / name / f"{index}.png")
    return folder


def write_cifar10(folder: Path, each=4, protocol=2) -> dict[str, np.ndarray]:
    """``cifar-10-batches-py`` with a few images a batch; returns images by batch, shape (each, 32, 32, 3)."""
    inside = folder / "cifar-10-batches-py"
    inside.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = {}
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        images[name] = rng.integers(0, 256, (each, 32, 32, 3), dtype=np.uint8)
        batch = {
            "batch_label": name,
            "labels": [(number + index) % 10 for index in range(each)],
            "data": np.ascontiguousarray(images[name].transpose(0, 3, 1, 2)).reshape(each, -1),
            "filenames": [f"{index}.png" for index in range(each)],
        }
        (inside / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    meta = {"label_names": CIFAR_CLASSES, "num_cases_per_batch": each, "num_vis": 3072}
    (inside / "batches.meta").write_bytes(pickle.dumps(meta, protocol=protocol))
    return images


def write_cifar10_archive(folder: Path) -> Path:
    archive = folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for file in sorted((folder / "cifar-10-batches-py").iterdir()):
            content = file.read_bytes()
            member = tarfile.TarInfo(f"cifar-10-batches-py/{file.name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive

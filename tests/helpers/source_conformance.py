"""What every source of images and captions must do. The tests of a source inherit from ``SourceConformance``."""

import json
from pathlib import Path

import numpy as np
import pytest
from captioned_files import encoded

from gaptune.data.build import build
from gaptune.data.images import UnreadableError, decode
from gaptune.data.sources import SOURCES, find_source
from gaptune.errors import UserError

NAMES = ("plain.png", "with space.png", "ümläut.png", "a'quote#1.png")


class SourceConformance:
    """Writes four images in a source's form, and tests what is read back.

    Attributes:
        kind: Kind of the source.
        free_names: Whether the files hold the names of the images.
        files_of_images: Whether each image is a file of its own.
        by_label: Whether the images have labels, and no captions of their own.
    """

    kind: str
    free_names = True
    files_of_images = True
    by_label = False

    def write(self, folder: Path, images: dict[str, bytes]) -> str:
        """Writes images, given by their names, and returns what stands behind ``kind:``."""
        raise NotImplementedError

    @pytest.fixture
    def place(self, tmp_path):
        return self.write(tmp_path / "files", {name: encoded(seed) for seed, name in enumerate(NAMES)})

    @pytest.fixture
    def source(self, place):
        return find_source(f"{self.kind}:{place}")

    def build(self, tmp_path, place, **options):
        source = find_source(f"{self.kind}:{place}")
        return build(source, out=tmp_path / "store", image_size=16, context_length=8, val_fraction=0, **options)

    def test_kind_and_place_open_the_source(self, source):
        assert type(source) is SOURCES[self.kind]
        assert source.kind == self.kind
        assert source.splits
        assert all(split.isidentifier() for split in source.splits)

    def test_nothing_at_the_place_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="nothing-here"):
            find_source(f"{self.kind}:{tmp_path / 'nothing-here'}")

    def test_samples_are_repeatable(self, source, place):
        again = find_source(f"{self.kind}:{place}")
        for split in source.splits:
            first, second, other = (
                [self.content(each) for each in one.samples(split)] for one in (source, source, again)
            )
            assert first == second == other
            assert first

    @staticmethod
    def content(sample):
        image = sample.image.read_bytes() if isinstance(sample.image, Path) else np.asarray(sample.image).tobytes()
        return sample.id, image, sample.captions, sample.label

    def test_samples_have_images_and_captions_or_labels(self, source):
        for split in source.splits:
            for sample in source.samples(split):
                assert not isinstance(sample.image, UnreadableError)
                if not isinstance(sample.image, np.ndarray):
                    decode(sample.image.read_bytes() if isinstance(sample.image, Path) else sample.image)
                assert (sample.label is not None) if self.by_label else sample.captions
                assert sample.label is None or 0 <= sample.label < len(source.classes)

    def test_count_is_the_number_of_samples_or_unknown(self, source):
        for split in source.splits:
            assert source.count(split) in (None, len(list(source.samples(split))))

    def test_ids_are_distinct(self, source):
        for split in source.splits:
            ids = [sample.id for sample in source.samples(split)]
            assert all(ids)
            assert len(set(ids)) == len(ids)

    def test_files_exist_and_include_the_images(self, source):
        files = [Path(file) for file in source.files()]
        assert files
        assert all(file.exists() for file in files)
        if self.files_of_images:
            assert set(NAMES) <= {file.name for file in files}

    def test_origin_is_json_and_names_the_place(self, source, tmp_path):
        assert str(tmp_path) in json.dumps(source.origin(), ensure_ascii=False)

    def test_odd_names_are_kept(self, source):
        if self.free_names:
            ids = {sample.id.rpartition("/")[2].removesuffix(".png") for sample in source.samples(source.splits[0])}
            assert ids == {name.removesuffix(".png") for name in NAMES}

    def test_store_holds_each_sample(self, source, place, tmp_path):
        store = self.build(tmp_path, place)
        store.verify()
        assert store.meta.source["builder"] == self.kind
        for split in source.splits:
            assert len(store.split(split)) == len(list(source.samples(split)))

    def test_broken_image_is_counted_and_left_out(self, tmp_path):
        images = {name: encoded(seed) for seed, name in enumerate(NAMES)} | {NAMES[1]: b"no image"}
        self.check_unread(tmp_path, self.write(tmp_path / "files", images), "broken")

    def test_missing_image_is_counted_and_left_out(self, place, tmp_path):
        if not self.files_of_images or self.by_label:  # an image that no file names is not missing
            return
        next((tmp_path / "files").rglob(NAMES[1])).unlink()
        self.check_unread(tmp_path, place, "missing")

    def check_unread(self, tmp_path, place, kind):
        """One of the images cannot be read; a source in pairs is refused for it."""
        if SOURCES[self.kind].in_pairs:
            with pytest.raises(UserError, match="missing or broken"):
                self.build(tmp_path, place, max_broken=0.9)
            return
        left_out = self.build(tmp_path, place, max_broken=0.9).meta.source["left_out"]
        assert sum(count for counts in left_out.values() for count in counts.values()) == 1

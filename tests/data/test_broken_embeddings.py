"""Files of features that cannot be used: one clear line each, and nothing left behind."""

from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedding_files import features, write_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from gaptune.data.embeddings.arrays import open_features
from gaptune.data.embeddings.places import Place
from gaptune.errors import UserError

IMAGES, TEXTS = 12, 12


class Files:
    """The arguments of a build that works, and its files, to break one."""

    def __init__(self, folder):
        self.folder = folder
        self.save("image.npy", features(IMAGES, 6))
        self.save("text.npy", features(TEXTS, 4))
        self.save("labels.npy", np.arange(IMAGES) % 3)
        self.save("prompts.npy", features(6, 4))
        self.options = {"image": ["test=image.npy"], "text": ["test=text.npy"]}

    def save(self, name, array):
        np.save(self.folder / name, array, allow_pickle=True)

    def use(self, **options):
        """Other values of options; None to leave one out."""
        self.options |= {name: None if value is None else [value] for name, value in options.items()}

    def words(self):
        words = []
        for name, values in self.options.items():
            for value in values or []:
                split, equals, file = value.rpartition("=")
                words += [f"--{name.replace('_', '-')}", f"{split}{equals}{self.folder / file}"]
        return words


def image(array):
    return lambda files: files.save("image.npy", array)


def changed(row, value):
    array = features(IMAGES, 6)
    array[row] = value
    return image(array)


def parquet(table, image="test=image.parquet"):
    def write(files):
        pq.write_table(pa.table(table), files.folder / "image.parquet")
        files.use(image=image)

    return write


def cut(name, write, keep):
    def make(files):
        write(files.folder / name)
        content = (files.folder / name).read_bytes()
        (files.folder / name).write_bytes(content[:keep])
        files.use(image=f"test={name}")

    return make


def table(rows, header=("image_row", "text_row"), use="test=pairs.csv"):
    def write(files):
        write_csv(files.folder / "pairs.csv", header, rows)
        files.use(pairs=use)

    return write


def keys(images, texts):
    def write(files):
        files.save("image_keys.npy", np.array(images))
        files.save("text_keys.npy", np.array(texts))
        files.use(image_keys="test=image_keys.npy", text_keys="test=text_keys.npy")

    return write


def labels(array, **options):
    def write(files):
        files.save("labels.npy", np.asarray(array))
        (files.folder / "classes.txt").write_text("a\nb\nc\n")
        files.use(labels="test=labels.npy", **options)

    return write


def several(*steps):
    def write(files):
        for step in steps:
            step(files)

    return write


def use(**options):
    return lambda files: files.use(**options)


HALF = features(IMAGES, 6)
NAMES = [str(row) for row in range(IMAGES)]
# fmt: off
BROKEN = {
    "NaN": (changed(3, np.nan), "image.npy: row 3 (counted from 0): NaN or infinite"),
    "infinite": (
        changed([1, 4, 5, 6, 7, 9], np.inf),
        "rows 1, 4, 5, 6, 7 and 1 more (counted from 0): NaN or infinite",
    ),
    "too large": (image(features(IMAGES, 6, dtype="f8") * 1e39), "(or too large for float32)"),
    "zeros": (changed(5, 0), "image.npy: row 5 (counted from 0): all zeros"),
    "counts": (image(HALF[:9]), "test has 9 images"),
    "widths of parts": (
        lambda files: (files.save("b.npy", features(5, 7)), files.options["image"].append("test=b.npy")),
        "b.npy: has features of 7 numbers, ",
    ),
    "two towers": (
        lambda files: (files.save("b.npy", features(TEXTS, 7)), files.options["image"].append("val=b.npy"),
                       files.options["text"].append("val=text.npy")),
        "val has image features of 7 numbers (",
    ),
    "prompts of another tower": (
        several(lambda files: files.save("prompts.npy", features(6, 5)), labels(np.arange(IMAGES) % 3),
                use(prompts="prompts.npy")),
        "prompts has text features of 5 numbers (",
    ),
    "lists of two lengths": (
        parquet({"f": [[0.1, 0.2]] * 5 + [[0.1]] + [[0.1, 0.2]] * 6}),
        "image.parquet: row 5 (counted from 0) has 1 numbers, others 2: two different towers?",
    ),
    "a list is null": (parquet({"f": [[0.1, 0.2]] * 5 + [None]}), "row 5 (counted from 0): no features"),
    "a number is null": (parquet({"f": [[0.1, 0.2]] * 5 + [[0.1, None]]}), "row 5 (counted from 0): null in place of"),
    "lists of whole numbers": (parquet({"f": [[1, 2]] * 5}), "has numbers of the type int64: expected float16"),
    "several columns": (
        parquet({"a": [[0.1]], "b": [[0.1]]}),
        "image.parquet: holds a, b: choose one with FILE:NAME",
    ),
    "unknown column": (
        parquet({"embedding": [[0.1]]}, "test=image.parquet:embeding"),
        "has no column 'embeding' (did you mean 'embedding'?)",
    ),
    "no features in parquet": (parquet({"a": ["x"]}), "image.parquet: has no column of features"),
    "unknown key": (
        lambda files: (np.savez(files.folder / "a.npz", image=HALF), files.use(image="test=a.npz:imag")),
        "a.npz: has no array 'imag' (did you mean 'image'?)",
    ),
    "several arrays": (
        lambda files: (np.savez(files.folder / "a.npz", a=HALF, b=HALF), files.use(image="test=a.npz")),
        "a.npz: holds a, b: choose one with FILE:NAME",
    ),
    "a key of npy": (use(image="test=image.npy:x"), "holds a single array without a name: leave out :x"),
    "other type of safetensors": (
        lambda files: (save_file({"a": np.ones((3, 2), "i8")}, files.folder / "a.safetensors"),
                       files.use(image="test=a.safetensors")),
        "has the type I64: expected BF16, F16, F32, or F64",
    ),
    "twice a key": (
        keys([*range(11), 4], range(12)),
        "image_keys.npy: rows 4, 11 (counted from 0): the key '4' is given twice",
    ),
    "no common key": (keys(range(12), range(100, 112)), "no text has the key of an image: '0' here, '100' there"),
    "keys on one side": (
        several(keys(range(12), range(12)), use(text_keys=None)),
        "test has keys on one side",
    ),
    "too few keys": (keys(range(11), range(12)), "image_keys.npy: has 11 keys, but there are 12 rows of features"),
    "an empty key": (keys([*NAMES[:-1], ""], NAMES), "row 11 (counted from 0): no key"),
    "pairs outside": (
        table([(0, 0), (12, 1)]),
        "pairs.csv: row 1 (counted from 0): image_row is 12, but there are 12 images",
    ),
    "pairs are no numbers": (table([(0, 0), ("x", 1)]), "image_row is 'x': expected a row number"),
    "no pairs": (table([]), "pairs.csv: has no pairs"),
    "unknown column of pairs": (
        table([(0, 0)], ("image_row", "textrow")),
        "has no column 'text_row' (did you mean 'textrow'?)",
    ),
    "labels outside": (
        labels([0] * 11 + [3], classes="classes.txt"),
        "labels.npy: row 11 (counted from 0): label 3 is not an index into the 3 classes of ",
    ),
    "label below zero": (labels([0] * 11 + [-1]), "labels go from -1 to 0"),
    "too few labels": (labels([0, 1]), "labels.npy: has 2 labels, but there are 12 rows of features"),
    "labels that are floats": (labels([0.5] * 12), "expected whole numbers or texts, one a row"),
    "prompts": (
        several(labels([0, 1, 2, 3] * 3), use(prompts="prompts.npy")),
        "prompts.npy: has 6 rows, not a multiple of the 4 classes",
    ),
    "prompts without classes": (use(prompts="prompts.npy"), "--prompts needs --labels or --classes"),
    "pickled objects": (image(np.array([{"a": 1}], dtype=object)), "holds Python objects (a pickle), which are not"),
    "pickled objects in npz": (
        lambda files: (np.savez_compressed(files.folder / "a.npz", np.array([{}], dtype=object)),
                       files.use(image="test=a.npz")),
        "holds Python objects (a pickle), which are not read",
    ),
    "a pickle": (
        lambda files: (files.folder / "image.npy").write_bytes(b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00]\x94."),
        "image.npy: cannot be read as npy: ",
    ),
    "whole numbers": (image(np.ones((12, 6), "i4")), "has numbers of the type int32: expected float16, float32, or"),
    "complex numbers": (image(np.ones((12, 6), "c8")), "has numbers of the type complex64"),
    "long floats": (image(np.ones((12, 6), "g")), "has numbers of the type "),
    "1-D": (image(HALF[0]), "has an array of shape (6,): expected (rows, width)"),
    "3-D": (image(HALF[None]), "has an array of shape (1, 12, 6): expected (rows, width)"),
    "no rows": (image(HALF[:0]), "has an array of shape (0, 6): it is empty"),
    "empty file": (lambda files: (files.folder / "image.npy").write_bytes(b""), "image.npy: is empty"),
    "cut npy": (cut("a.npy", lambda path: np.save(path, HALF), -1), "cannot be read as npy: it is truncated"),
    "cut header": (cut("a.npy", lambda path: np.save(path, HALF), 40), "cannot be read as npy: "),
    "cut npz": (cut("a.npz", lambda path: np.savez(path, HALF), -9), "cannot be read as npz: "),
    "cut safetensors": (
        cut("a.safetensors", lambda path: save_file({"a": HALF}, path), -1),
        "cannot be read as safetensors: it is truncated",
    ),
    "cut header of safetensors": (
        cut("a.safetensors", lambda path: save_file({"a": HALF}, path), 30),
        "cannot be read as safetensors: its header is damaged",
    ),
    "cut parquet": (
        cut("a.parquet", lambda path: pq.write_table(pa.table({"a": list(HALF)}), path), -9),
        "cannot be read as parquet: ",
    ),
    "no such file": (use(image="test=imag.npy"), "there is no file "),
    "other ending": (
        lambda files: ((files.folder / "a.pt").write_bytes(b"x"), files.use(image="test=a.pt")),
        "a.pt: has another format: expected .npy, .npz, .safetensors, .parquet, or a directory of parts",
    ),
    "directory without parts": (
        lambda files: ((files.folder / "none").mkdir(), files.use(image="test=none")),
        "none: has no .npy files",
    ),
    "out exists": (lambda files: (files.folder / "out").mkdir(), "out exists; remove it"),
    "images alone": (use(text=None, prompts="prompts.npy"), "test has features of images alone"),
    "no split": (use(image="image.npy"), "expected SPLIT=FILE"),
    "texts of another split": (use(text="tset=text.npy"), "there is no --image tset (did you mean 'test'?)"),
    "no texts at all": (several(labels(np.arange(12) % 3), use(text=None)), "there are no features of texts"),
    "a single val image": (
        several(lambda files: files.save("image.npy", HALF[:1]), lambda files: files.save("text.npy", features(1, 4)),
                use(image="val=image.npy", text="val=text.npy")),
        "val has 1 image: metrics of pairs need two",
    ),
}
# fmt: on


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_features_are_refused_in_one_line(kind, gaptune, tmp_path):
    files = Files(tmp_path)
    breaking, message = BROKEN[kind]
    breaking(files)
    before = sorted(path.name for path in tmp_path.iterdir())
    code, said, error = gaptune("data", "features", *files.words(), "--out", tmp_path / "out")
    assert (code, said) == (2, "")
    assert message in error
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image", "test=F", "--text", "test=F", "--center"], "--center needs training features"),
        (["--image", "test=F", "--text", "test=F", "--val-fraction", "0.5"], "--val-fraction needs --image train=FILE"),
        (["--image", "train=F", "--text", "train=F", "--image", "val=F", "--text", "val=F", "--val-fraction", "0.1"],
         "there is a split val already"),
        (["--image", "train=F", "--text", "train=F", "--image", "val=F", "--text", "val=F"],
         "train has no images beside those of val"),
        (["--image", "train=F", "--text", "train=F", "--pairs", "train=F", "--pairs", "training=F"],
         "--pairs is given twice for train"),
        (["scenes", "--image", "train=F"], "--image is for features in files: leave out scenes"),
        (["--image", "train=F", "--text", "train=F", "--center", "--treated-as", "STORE"], "in place of --normalize"),
        (["--image", "train=F", "--text", "train=F", "--treated-as", "STORE"], "6 numbers, those of --treated-as 3"),
        (["--image", "train=F", "--text", "train=F", "--treated-as", "scenes"], "holds images, not features"),
        (["--model", "scenes-tiny"], "--model needs a STORE"),
        ([], "there are no features of images: give --image SPLIT=FILE"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_each_other_are_refused(words, message, gaptune, tmp_path):
    np.save(tmp_path / "f.npy", features(30, 6))
    if "STORE" in words:
        np.save(tmp_path / "narrow.npy", features(30, 3))
        narrow = [f"--{modality}=train={tmp_path / 'narrow.npy'}" for modality in ("image", "text")]
        narrow += ["--val-fraction", "0.3", "--center", "--out", tmp_path / "narrow"]
        assert gaptune("data", "features", *narrow)[0] == 0
    words = [word.replace("=F", f"={tmp_path / 'f.npy'}").replace("STORE", str(tmp_path / "narrow")) for word in words]
    code, _, error = gaptune("data", "features", *words, "--out", tmp_path / "out")
    assert code == 2
    assert message in error


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    """A file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    np.save(folder / "a.npy", HALF)
    np.savez(folder / "b.npz", HALF)
    np.savez_compressed(folder / "c.npz", HALF)
    save_file({"a": HALF}, folder / "d.safetensors")
    pq.write_table(pa.table({"a": list(HALF)}), folder / "e.parquet")
    return sorted(folder.iterdir())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 4), at=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), keep=st.floats(0.1, 2))
def test_damaged_file_is_read_or_refused(which, at, byte, keep, whole_files, tmp_path):
    whole = whole_files[which]
    content = bytearray(whole.read_bytes())
    start = int(at * min(len(content), 400)) * (1 if byte % 2 else -1)  # headers lie at either end
    content[start] = byte
    damaged = tmp_path / whole.name
    damaged.write_bytes(content[: int(keep * len(content))])
    with suppress(UserError):
        assert open_features(Place(damaged, None)).ndim == 2

"""``gaptune data build`` for each kind, as a person runs it."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captioned_files import encoded, plain_pairs, samples, write_csv, write_images, write_shard
from labeled_files import write_cifar10, write_image_folder
from warm import run

from gaptune.cli import main
from gaptune.data.sources import SOURCES, ImageFolder


def webdataset(folder):
    write_shard(folder / "00000.tar", samples(range(30)))
    return [folder / "{00000..00000}.tar", "--val-fraction", "0.3"]


def csv(folder):
    write_images(folder, range(4))
    write_csv(folder / "a.csv", [["file", "text"], *([f"{n}.png", f"picture {n}"] for n in range(3))])
    write_csv(folder / "b.csv", [["file", "text"], ["3.png", "picture 3"]])
    return [f"train={folder / 'a.csv'}", f"val={folder / 'b.csv'}", "--image", "file", "--caption", "text"]


def parquet(folder):
    table = {"filepath": [encoded(n) for n in range(4)], "title": ["x"] * 4, "part": ["train"] * 3 + ["val"]}
    pq.write_table(pa.table(table), folder / "t.parquet")
    return [folder / "t.parquet", "--split", "part"]


def imagefolder(folder):
    return [write_image_folder(folder / "data")]


def cifar10(folder):
    write_cifar10(folder)
    return [folder]


def mmvp(folder):
    return [plain_pairs(folder)]


@pytest.mark.parametrize("kind", [webdataset, csv, parquet, imagefolder, cifar10, mmvp], ids=lambda kind: kind.__name__)
def test_every_kind_is_built_and_described(kind, tmp_path, monkeypatch, capsys):
    words = ["gaptune", "data", "build", kind.__name__, *map(str, kind(tmp_path))]
    words += ["--out", str(tmp_path / "store"), "--size", "16", "--context", "12"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert not ended.value.code, err
    assert f"made by         {kind.__name__} from " in out
    first = "pairs" if kind is mmvp else "train"
    assert out.splitlines()[0].split() == ["split", "images", "captions", "labeled", "merged", "left", "out"]
    assert out.splitlines()[1].split()[0] == first


def test_kind_without_a_command_of_its_own_is_built_from_its_path(tmp_path, monkeypatch, gaptune):
    class Mine(ImageFolder):
        """From my own directories."""

        kind = "mine"

    monkeypatch.setitem(SOURCES, "mine", Mine)
    assert "From my own directories." in gaptune("data", "build", "--help")[1]
    folder = write_image_folder(tmp_path / "data")
    code, out, err = gaptune("data", "build", "mine", folder, "--out", tmp_path / "store", "--size", "16")
    assert not code, err
    assert "made by         mine from " in out
    assert "no command 'mina'" in gaptune("data", "build", "mina", folder)[2]


@pytest.mark.whole
def test_wrong_column_prints_one_line_and_exits_with_code_2(tmp_path):
    words = ["data", "build", "csv", *map(str, csv(tmp_path)[:2]), "--image", "fiel", "--out", str(tmp_path / "store")]
    ran = run(*words, code=2)
    assert "a.csv: there is no column 'fiel' (did you mean 'file'?)" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "store").exists()

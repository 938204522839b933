"""Folders by URL: what is put there is whole or not there."""

import pytest

from gaptune.errors import UserError
from gaptune.remote import Folder, is_url


@pytest.fixture(params=["file", "memory"])
def folder(request, tmp_path):
    """pyarrow's own file system, and one that only fsspec has."""
    return Folder(f"file://{tmp_path}/far" if request.param == "file" else f"memory://far-{tmp_path.name}")


def test_what_is_put_is_got(folder, tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    folder.put(tmp_path / "a", "deep/b")
    assert folder.read("deep/b") == b"content"
    assert folder.get("deep/b", tmp_path / "new" / "c")
    assert (tmp_path / "new" / "c").read_bytes() == b"content"
    assert folder.names("deep") == ["b"]
    folder.delete("deep/b")
    assert folder.names("deep") == []


def test_putting_again_replaces(folder, tmp_path):
    for content in (b"one", b"two"):
        (tmp_path / "a").write_bytes(content)
        folder.put(tmp_path / "a", "b")
    assert folder.read("b") == b"two"
    assert folder.names() == ["b"]


def test_what_is_not_there_is_none_or_false_and_leaves_nothing(folder, tmp_path):
    assert folder.read("no") is None
    assert not folder.get("no", tmp_path / "no")
    assert folder.names("no") == []
    assert not (tmp_path / "no").exists()


def test_what_could_not_be_put_leaves_nothing(folder, tmp_path):
    with pytest.raises(OSError, match="missing"):
        folder.put(tmp_path / "missing", "b")
    assert folder.names() == []


@pytest.mark.parametrize("url", ["nonsense://bucket/x", "relative/path"])
def test_a_place_that_nobody_knows_is_refused(url):
    with pytest.raises(UserError, match="cannot open"):
        Folder(url)


def test_urls_and_paths_are_told_apart():
    assert is_url("s3://bucket/x")
    assert is_url("file:///mnt/x")
    assert not is_url("results/x")

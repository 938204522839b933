"""Folders by URL: what is put there is whole or not there."""

from pathlib import Path

import pytest

from gaptune.errors import UserError
from gaptune.storage.folder import Folder, is_url


@pytest.fixture(params=["file", "memory"])
def folder(request, tmp_path):
    """pyarrow's own file system, and one that only fsspec has."""
    return Folder(f"file://{tmp_path}/far" if request.param == "file" else f"memory://far-{tmp_path.name}")


def test_file_that_is_put_can_be_read_back(folder, tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    folder.put(tmp_path / "a", "deep/b")
    assert folder.read("deep/b") == b"content"
    assert folder.get("deep/b", tmp_path / "new" / "c")
    assert (tmp_path / "new" / "c").read_bytes() == b"content"
    assert folder.names("deep") == ["b"]
    folder.delete("deep/b")
    assert folder.names("deep") == []


def test_second_put_replaces_the_file(folder, tmp_path):
    for content in (b"one", b"two"):
        (tmp_path / "a").write_bytes(content)
        folder.put(tmp_path / "a", "b")
    assert folder.read("b") == b"two"
    assert folder.names() == ["b"]


def test_missing_file_reads_as_none_or_false_and_leaves_no_file(folder, tmp_path):
    assert folder.read("no") is None
    assert not folder.get("no", tmp_path / "no")
    assert folder.names("no") == []
    assert not (tmp_path / "no").exists()


def test_failed_put_leaves_no_file(folder, tmp_path):
    with pytest.raises(OSError, match="missing"):
        folder.put(tmp_path / "missing", "b")
    assert folder.names() == []


@pytest.mark.parametrize("url", ["nonsense://bucket/x", "relative/path"])
def test_unknown_scheme_or_relative_path_is_refused(url):
    with pytest.raises(UserError, match="cannot open"):
        Folder(url)


@pytest.mark.parametrize("name", ["run[lr] 1", "a+b=1, c@(d)", "字"])
def test_subfolder_may_have_any_sweep_name(tmp_path, name):
    for place in (f"file://{tmp_path}/far", f"file:{tmp_path}/far", f"{tmp_path}/far"):
        folder = Folder(f"{place}/{name}")
        folder.put(Path(__file__), "x")
        assert (tmp_path / "far" / name / "x").read_bytes() == Path(__file__).read_bytes()
        assert is_url(folder.url)
        assert Folder(folder.url).names() == ["x"]
    assert Folder(f"memory://far/{name}").url.isascii()


def test_tilde_is_expanded_in_a_path_and_refused_in_a_url(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder("~/far").url == f"file://{tmp_path}/far"
    for url in ("file://~/far", "s3:/bucket", "https:/host/x", "~nobody-of-that-name/x"):
        with pytest.raises(UserError, match="cannot open"):
            Folder(url)


def test_url_is_distinguished_from_a_path():
    assert is_url("s3://bucket/x")
    assert is_url("file:///mnt/x")
    assert not is_url("results/x")


@pytest.mark.parametrize("url", ["ftp://host/sweeps", "github://owner/sweeps"])
def test_storage_that_needs_more_than_a_url_is_refused(url):
    with pytest.raises(UserError, match="needs more than a URL"):
        Folder(url)

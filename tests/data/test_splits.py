"""Splits: which one a file belongs to, by the user's word, its folder and its name."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gaptune.data.sources.patterns import files_below, files_by_split, is_leftover, located
from gaptune.data.sources.splits import by_split, canonical, split_in_column, split_of
from gaptune.errors import UserError

ALIASES = {
    "train": ["train", "training"],
    "val": ["val", "valid", "validation", "dev"],
    "test": ["test", "testing"],
}
ALL_ALIASES = [(split, alias) for split, aliases in ALIASES.items() for alias in aliases]


def touched(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def found(root, *places, ending=".tar"):
    os.chdir(root)
    return {
        split: [str(file.relative_to(root)) for file in files]
        for split, files in files_by_split(places, ending).items()
    }


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


# By name


@pytest.mark.parametrize(("split", "alias"), ALL_ALIASES)
def test_every_alias_is_its_split_in_any_case(split, alias):
    for name in (alias, alias.upper(), alias.title(), f" {alias} "):
        assert canonical(name) == split
        assert split_in_column(name) == split


def test_other_names_stay_as_they_are_and_must_be_identifiers():
    assert canonical("restval") == "restval"
    assert canonical("Extra_1") == "Extra_1"
    for name in ("a b", "../x", "", "1st"):
        with pytest.raises(UserError, match="cannot name a split"):
            canonical(name)
    assert split_in_column(None) is split_in_column("  ") is None
    with pytest.raises(UserError, match="0 cannot name a split"):
        split_in_column(0)


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00001.parquet", "train"),
        ("cc/cc3m-validation-0000.tar", "val"),
        ("x/test_images.csv", "test"),
        ("x/captions_val2017.json", "val"),
        ("x/2017Train.csv", "train"),
        ("x/My.Dev.Set.csv", "val"),
        ("train/0.tar", "train"),
        ("Validation/0.tar", "val"),
        ("val2017/0.tar", "val"),
        ("train/train-0.tar", "train"),
        ("validation/valid-0.tar", "val"),
        ("x/0.tar", None),
        ("x/latest.tar", None),
        ("x/contest-trains-devil.tar", None),
        ("test_images/0.tar", None),
    ],
)
def test_folder_then_the_name_says_the_split(path, split):
    assert split_of(Path("/data") / path) == split


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("train/test-0.tar", r"'test' \(its name\) and 'train' \(its folder 'train'\)"),
        ("Valid/training.csv", r"'train' \(its name\) and 'val' \(its folder 'Valid'\)"),
        ("x/train_val.csv", r"'train' \(its name\) and 'val' \(its name\)"),
    ],
)
def test_file_of_two_splits_is_refused_with_both(path, said):
    with pytest.raises(UserError, match=f"{path} belongs to two splits, {said}"):
        split_of(Path("/data") / path)


words = st.text("abcxyz0123456789é", max_size=6).filter(lambda word: canonical_or_none(word) is None)


def canonical_or_none(word):
    return next((s for s, alias in ALL_ALIASES if alias == word.strip("0123456789").casefold()), None)


@given(
    st.sampled_from(ALL_ALIASES),
    st.lists(words, max_size=3),
    st.lists(words, max_size=3),
    st.sampled_from("-_. "),
    st.sampled_from([str.lower, str.upper, str.title]),
    st.sampled_from([".tar", ".csv", ".parquet"]),
)
@example(("val", "dev"), [], ["00000", "of", "00001"], "-", str.lower, ".parquet")
def test_alias_anywhere_in_a_name_says_the_split_and_no_other_word_does(one, before, after, by, case, ending):
    split, alias = one
    name = by.join([*before, case(alias), *after]) + ending
    assert split_of(Path("/data/x") / name) == split
    assert split_of(Path("/data/x") / (by.join([*before, "x", *after]) + ending)) is None
    assert split_of(Path(f"/data/{case(alias)}") / (by.join([*before, "x", *after]) + ending)) == split


# Of files on the disk


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # a hub's layout: all in one folder
        (
            ["train-0.tar", "test-0.tar", "validation-0.tar"],
            {"train": ["train-0.tar"], "test": ["test-0.tar"], "val": ["validation-0.tar"]},
        ),
        (
            ["cc3m-train-0000.tar", "cc3m-validation-0000.tar"],
            {"train": ["cc3m-train-0000.tar"], "val": ["cc3m-validation-0000.tar"]},
        ),
        # folders, also below others, also with further words
        (["TRAIN/0.tar", "Dev/0.tar"], {"train": ["TRAIN/0.tar"], "val": ["Dev/0.tar"]}),
        (["train/a/0.tar", "test/a/0.tar"], {"train": ["train/a/0.tar"], "test": ["test/a/0.tar"]}),
        (["cc-train/0.tar", "cc-test/0.tar"], {"train": ["cc-train/0.tar"], "test": ["cc-test/0.tar"]}),
        (["dev/train/0.tar", "dev/test/0.tar"], {"train": ["dev/train/0.tar"], "test": ["dev/test/0.tar"]}),
        (["Test/a/0.tar", "Test/b/0.tar"], {"test": ["Test/a/0.tar", "Test/b/0.tar"]}),
        # folder for one, name for the other
        (["train/0.tar", "test.tar"], {"train": ["train/0.tar"], "test": ["test.tar"]}),
        # nothing names a split
        (["0.tar", "1.tar"], {"train": ["0.tar", "1.tar"]}),
        (["a/0.tar", "b/0.tar"], {"train": ["a/0.tar", "b/0.tar"]}),
        # endings in any case; leftovers of archives, notebooks and systems
        (
            ["0.TAR", "._0.tar", "__MACOSX/0.tar", ".ipynb_checkpoints/0.tar", ".hidden/test/0.tar", "Thumbs.db"],
            {"train": ["0.TAR"]},
        ),
    ],
)
def test_folder_is_read_by_any_usual_layout(names, expected, root):
    assert found(touched(root, *names), ".") == expected
    assert found(root, str(root)) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-0.tar", "more-0.tar"], "more-0.tar: neither folder nor name says the split, as they do for other"),
        (["train/0.tar", "a/0.tar", "a/1.tar"], "a/0.tar, .*a/1.tar: neither folder nor name"),
        (["train/0.tar", "test/train-1.tar"], "test/train-1.tar belongs to two splits"),
        (["train/test/0.tar", "train/train-0.tar", "b.tar"], "train/test/0.tar belongs to two splits"),
        ([], "there are no .tar files in"),
    ],
)
def test_files_of_no_split_or_two_are_named(names, message, root):
    with pytest.raises(UserError, match=message):
        found(touched(root, *names), ".")


def test_splits_given_by_the_user_take_precedence(root):
    touched(root, "train/a.tar", "train/test.tar", "b.tar")
    assert found(root, "test=train/a.tar", "Valid=train/test.tar", "Other=b.tar") == {
        "test": ["train/a.tar"],
        "val": ["train/test.tar"],
        "Other": ["b.tar"],
    }
    with pytest.raises(UserError, match=r"b.tar: other files are given a split, so give these one too"):
        found(root, "val=train/a.tar", "b.tar")
    with pytest.raises(UserError, match=r"b.tar belongs to two splits, 'train' and 'test'"):
        found(root, "train=b.tar", "test=b.tar")
    assert found(root, "train=b.tar", "training=*.tar") == {"train": ["b.tar"]}


@pytest.mark.parametrize(
    "name", ["data [v2]/c.tar", "{a}/c.tar", "x{0..1}.tar", "a*b?.tar", "train=a/c.tar", "a{b.tar", "[!a].tar"]
)
def test_name_that_exists_is_no_pattern(name, root):
    touched(root, name, "x0.tar", "x1.tar")
    assert [file for files in found(root, name).values() for file in files] == [name]


def test_pattern_may_lie_in_a_folder_with_brackets(root):
    touched(root, "data [v2] {x}/0.tar", "data [v2] {x}/1.tar", "data v/2.tar")
    expected = {"train": ["data [v2] {x}/0.tar", "data [v2] {x}/1.tar"]}
    assert found(root, "data [v2] {x}/*.tar") == expected
    assert found(root, "data [v2] {x}/{0..1}.tar") == expected


def test_links_have_the_split_of_their_own_folder_and_name(root):
    touched(root, "blobs/train-f00", "blobs/f01")
    for name, blob in (("snap/train/0.tar", "f01"), ("snap/test/0.tar", "f01"), ("snap/val-0.tar", "train-f00")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(root / "blobs" / blob)
    expected = {"train": ["snap/train/0.tar"], "test": ["snap/test/0.tar"], "val": ["snap/val-0.tar"]}
    assert found(root, "snap") == expected
    assert found(root, "snap/train/*.tar", "snap/test/0.tar", "snap/val-0.tar") == expected


def test_linked_folders_are_entered_once_and_have_their_own_names(root):
    touched(root, "pool/0.tar")
    (root / "ds").mkdir()
    (root / "ds/train").symlink_to("../pool")
    (root / "ds/test").symlink_to("../pool")
    (root / "pool/again").symlink_to("../pool")
    assert found(root, "ds") == {"train": ["ds/train/0.tar"], "test": ["ds/test/0.tar"]}
    assert [file.name for file in files_below(root / "pool")] == ["0.tar"]


def test_folder_above_a_link_is_the_one_above_what_it_leads_to(root):
    touched(root, "real/train/x/0.tar", "real/train/1.tar")
    (root / "link").symlink_to("real/train/x")
    os.chdir(root)
    assert located("link/../1.tar") == root / "real/train/1.tar"
    assert located("link/0.tar") == root / "link/0.tar"
    assert located("~nobody-of-that-name/x").name == "x"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("gone.tar", "there is no file .*gone.tar"),
        ("gone*.tar", "there is no file .*gone"),
        ("{a,b", "a brace is not closed"),
        ("dangling.tar", "dangling.tar is a link to nothing"),
        ("pipe.tar", "pipe.tar is not a file"),
    ],
)
def test_missing_file_or_folder_is_refused_in_one_line(place, message, root):
    (root / "dangling.tar").symlink_to("nowhere")
    os.mkfifo(root / "pipe.tar")
    with pytest.raises(UserError, match=message):
        found(root, place)


def test_leftovers_are_known_by_their_names():
    leftovers = ["._x.jpg", "__MACOSX", ".ipynb_checkpoints", "Thumbs.db", "thumbs.db", ".DS_Store", "@eaDir"]
    assert all(map(is_leftover, leftovers))
    assert not any(map(is_leftover, ["a.jpg", "_x", "thumbs", "MACOSX"]))


def test_no_files_give_no_splits():
    assert by_split([]) == {}

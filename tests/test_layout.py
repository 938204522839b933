"""The test tree itself: what pytest needs to collect it whole."""

from collections import Counter
from pathlib import Path


def test_no_two_test_files_share_a_name():
    # Without packages, pytest imports by base name; a second file of one name stops the whole collection.
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []

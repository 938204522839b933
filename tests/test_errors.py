"""Messages made of other libraries' errors."""

import pytest

from gaptune.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("no such disk\nand more"), "no such disk"),
        (RuntimeError("\n  late\n"), "late"),
        (RuntimeError(), "RuntimeError"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_first_line_is_the_message_or_the_type(error, line):
    assert first_line(error) == line

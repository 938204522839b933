"""The test tree mirrors the package."""

from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "gaptune"


def test_every_package_has_its_tests_in_a_folder_of_its_name():
    packages = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    folders = {file.parent.name for file in TESTS.glob("*/test_*.py")}
    assert packages == folders - {"docs"}

"""``python -m gaptune.cli``."""

from gaptune.cli import main

main()

"""Adds the pages of the project's root to the site: README (as the front page), CONTRIBUTING and CHANGELOG."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
MOVED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them, with links relative to ``docs``."""
    for name, page in MOVED.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, moved in MOVED.items():
            text = text.replace(f"]({other})", f"]({moved})")
        files.append(File.generated(config, page, content=text))
    return files

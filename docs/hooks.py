"""Pages of the site that live in the root of the project: the README as its front page, CONTRIBUTING and CHANGELOG."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
MOVED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them, with their links as seen from ``docs``."""
    for name, page in MOVED.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, moved in MOVED.items():
            text = text.replace(f"]({other})", f"]({moved})")
        files.append(File.generated(config, page, content=text))
    return files

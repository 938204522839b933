"""Files and folders: local paths, URLs, atomic writes, locks, caches, and what comes with gaptune."""

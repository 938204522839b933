"""Files and folders: local paths, URLs, atomic writes, locks, caches, and the files included with gaptune."""

"""MLflow's tables in a new SQLite file: made once in a run, then copied. Its migrations compute for seconds.

And the version of these tables, for which MLflow reads all its migrations each time that it opens a store.
"""

import os
import sqlite3
from contextlib import closing
from functools import cache, wraps
from pathlib import Path
from tempfile import TemporaryDirectory

TABLES = "GAPTUNE_TESTS_TABLES"
"""Environment variable with the path of the file that holds the tables, which need not exist yet."""


def copy_tables():
    """From now on MLflow in this process copies the tables, once they have been made anywhere in the run."""
    from mlflow.store.db import utils

    make = utils._initialize_tables
    if hasattr(make, "__wrapped__"):
        return

    @wraps(make)
    def initialize(engine):
        whole = os.environ.get(TABLES)
        if whole is None or engine.url.drivername != "sqlite" or not utils._is_empty_database(engine):
            make(engine)
        elif Path(whole).exists():
            _copy(whole, engine.url.database)
        else:
            make(engine)
            with TemporaryDirectory(dir=Path(whole).parent) as folder:
                _copy(engine.url.database, partial := Path(folder) / "tables.db")
                partial.rename(whole)

    utils._initialize_tables = initialize
    utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)


def _copy(source, target):
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)

"""Classifies errors of MLflow: it is unreachable now, or its store can never work as it is."""

from __future__ import annotations

import errno
import re
import sqlite3
import ssl
from collections.abc import Iterator

from gaptune.errors import UserError, did_you_mean


class UnreachableError(ConnectionError):
    """MLflow is unreachable now. What is missing can be written later."""


class UnusableError(UserError):
    """MLflow's store cannot be used. The message says what to do."""


_TRANSIENT_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_PROTOCOL,
}
_PERMANENT_OS = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG}
_TRANSIENT_CODES = {
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_CONFLICT",
    "RESOURCE_EXHAUSTED",
    "TEMPORARILY_UNAVAILABLE",
}
_GONE_CODES = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_STATE", "INVALID_PARAMETER_VALUE"}
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


class GoneError(Exception):
    """A run or the experiment no longer exists, or is marked as deleted."""


def is_gone(error: Exception) -> bool:
    """Whether an error can mean that a run or the experiment has been deleted, so that a new search may help."""
    return isinstance(error, GoneError) or getattr(error, "error_code", None) in _GONE_CODES


def explain(error: Exception, uri: str, *, opening: bool = False) -> Exception:
    """Classifies an error by its type and code, and those of its causes.

    Args:
        error: Error from MLflow or a library below it.
        uri: MLflow's tracking URI.
        opening: Whether the store was being opened; an unknown error is then a matter of its setup.

    Returns:
        An ``UnreachableError`` or an ``UnusableError``; the error itself if it is neither.
    """
    if isinstance(error, UnreachableError | UserError):
        return error
    chain = list(_causes(error))
    passing = next((verdict for link in reversed(chain) if (verdict := _passes(link, uri)) is not None), None)
    if passing is None and not opening:
        return error
    told = _text(chain)
    if passing:
        return UnreachableError(_without_secrets(f"MLflow is unreachable at {uri} ({told})"))
    return UnusableError(_without_secrets(f"MLflow at {uri} cannot be used ({told}); {hint(uri)}"))


def hint(uri: str) -> str:
    """What to do about a store that cannot be used."""
    scheme = uri.split(":")[0].split("+")[0]
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", uri):
        return f"did you mean http://{uri}?"
    if scheme in ("uc", "databricks-uc"):
        return "it keeps models, not runs; give a server or a database, such as sqlite:///PATH/mlflow.db"
    if scheme == "file" or (":" not in uri.split("/")[0] and scheme != "databricks"):
        return "MLflow no longer writes to folders; give a database, such as sqlite:///PATH/mlflow.db"
    if scheme in ("http", "https"):
        return (
            "is it the address of an MLflow server, and are the credentials right (MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN)?"
        )
    if scheme == "databricks":
        return "log in with `databricks auth login`, or set DATABRICKS_HOST and DATABRICKS_TOKEN"
    if scheme in _SCHEMES:
        return "repair it, or give another --tracking-uri"
    known = did_you_mean(scheme, _SCHEMES)
    return f"give an address such as http://HOST:5000 or sqlite:///PATH/mlflow.db{known}"


def first_line(error: BaseException) -> str:
    """Type and first line of an error."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__


def _text(chain: list[BaseException]) -> str:
    """Text of an error: that of the system or the database if it is the first cause."""
    from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

    if isinstance(chain[0], UnsupportedModelRegistryStoreURIException):
        return "unknown kind of store"
    return first_line(chain[-1] if isinstance(chain[-1], OSError | sqlite3.Error) else chain[0])


def _causes(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _passes(error: BaseException, uri: str) -> bool | None:
    """Whether an error may pass by itself; None if its type does not tell."""
    if isinstance(error, GoneError):
        return True
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return None if code is None else code & 0xFF in _TRANSIENT_SQLITE
    if isinstance(error, ssl.SSLError):  # before OSError, which it is
        return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if isinstance(error, ImportError):
        return False
    by_library = _passes_library(error, uri)
    if by_library is None and isinstance(error, OSError):
        return error.errno not in _PERMANENT_OS
    return by_library


def _passes_library(error: BaseException, uri: str) -> bool | None:
    from mlflow.exceptions import MlflowException, RestException
    from requests import exceptions as http
    from sqlalchemy import exc as sql

    if isinstance(error, http.RequestException):
        return isinstance(error, http.ConnectionError | http.Timeout | http.RetryError | http.ChunkedEncodingError)
    if isinstance(error, sql.OperationalError | sql.InterfaceError | sql.TimeoutError):
        return True
    if isinstance(error, sql.SQLAlchemyError):
        return False
    if not isinstance(error, MlflowException):
        return None
    if error.error_code != "INTERNAL_ERROR":
        return error.error_code in _TRANSIENT_CODES
    if isinstance(error, RestException):
        return True
    # Only the text shows whether it is a proxy's unusual status (Cloudflare: 520 to 530) or no answer of MLflow.
    return bool(re.search(r"failed with error code 5\d\d", str(error))) if uri.startswith("http") else None


def _without_secrets(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//***@", text)

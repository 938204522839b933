"""``gaptune space show``, ``gaptune ui`` and ``gaptune notebook``: looking before and after."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gaptune.cli.options import results_option, tracking_option
from gaptune.errors import UserError, did_you_mean
from gaptune.storage.bundled import notebooks
from gaptune.text.output import echo


@click.command()
@results_option
@tracking_option
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Where to serve them.")
def ui(results: Path, tracking_uri: str | None, port: int) -> None:
    """Open MLflow's pages on the results (on this machine only: http://127.0.0.1:PORT)."""
    from gaptune.tracking import default_uri
    from gaptune.tracking.links import experiment_link

    if tracking_uri is not None and tracking_uri.startswith("http"):
        there = "a server answers there" if _answers(tracking_uri) else "but no server answers there now"
        echo(f"{experiment_link(results, tracking_uri)}  ({there})")
        return
    if tracking_uri is None and not (results / "mlflow.db").exists():
        raise UserError(f"there is no mlflow.db in {results}; run a sweep first, or give --results")
    _check_free(port)
    echo(f"{experiment_link(results, f'http://127.0.0.1:{port}')}  (in a few seconds; Ctrl-C ends it)")
    # One reader needs one worker, and none of the jobs for agents: 2 processes and 0.5 GB instead of 15 and 2.9.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    where = ["--backend-store-uri", tracking_uri or default_uri(results), "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "server", *where, "--workers", "1"]
    os.execv(command[0], command)


@click.command()
@click.argument("name", metavar="NAME", shell_complete=lambda context, parameter, typed: _notebooks(typed))
@click.option("--edit", is_flag=True, help="Change it, too (the file that comes with gaptune).")
@click.option("--port", default=2718, show_default=True, type=click.IntRange(1, 65535), help="Where to serve it.")
@results_option
def notebook(name: str, edit: bool, port: int, results: Path) -> None:
    """Open a notebook on the newest sweep: front, dynamics or paper (on this machine only)."""
    import importlib.util

    known = notebooks()
    if name not in known:
        raise UserError(
            f"no notebook is called {name!r}{did_you_mean(name, known)}; there are {', '.join(sorted(known))}"
        )
    if importlib.util.find_spec("marimo") is None:
        raise UserError("notebooks need marimo: pip install 'gaptune[notebooks]'")
    how = ["edit"] if edit else ["run", "--include-code"]
    _check_free(port)
    os.environ["GAPTUNE_RESULTS"] = str(results.resolve())
    command = [sys.executable, "-m", "marimo", *how, str(known[name]), "--host", "127.0.0.1", "--port", str(port)]
    os.execv(command[0], command)


def _notebooks(start: str) -> list[str]:
    """Names of notebooks that begin so."""
    return sorted(name for name in notebooks() if name.startswith(start))


def _check_free(port: int) -> None:
    """Refuses a port of this machine on which something listens already.

    Raises:
        UserError: It is taken.
    """
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(
                f"cannot serve on port {port}: {(error.strerror or str(error)).lower()}; give another --port"
            ) from None


def _answers(address: str) -> bool:
    """Whether a web server answers, whatever it says."""
    import http.client
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(address, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return True

"""``gaptune ui`` and ``gaptune notebook``: results in the browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gaptune.cli.options import port_option, results_option, tracking_option
from gaptune.errors import UserError, did_you_mean
from gaptune.storage.bundled import notebooks
from gaptune.text.output import echo


@click.command(epilog="Example: gaptune ui --port 5001")
@results_option
@tracking_option
@port_option(5000, "Port of the MLflow UI on this machine.")
def ui(results: Path, tracking_uri: str | None, port: int) -> None:
    """Start the MLflow UI for the results directory.

    The server is reachable from this machine only, at http://127.0.0.1:PORT. For a tracking server, prints its address.
    """
    from gaptune.tracking import default_uri
    from gaptune.tracking.links import experiment_link

    if tracking_uri is not None and tracking_uri.startswith("http"):
        state = "existing MLflow server" if _answers(tracking_uri) else "no server answers at this address"
        echo(f"{experiment_link(results, tracking_uri)}  ({state})")
        return
    if tracking_uri is None and not (results / "mlflow.db").exists():
        raise UserError(f"there is no mlflow.db in {results}; run a sweep first, or give --results")
    _check_free(port)
    echo(f"{experiment_link(results, f'http://127.0.0.1:{port}')}  (ready in a few seconds; Ctrl-C stops it)")
    # One reader needs one worker, and none of the jobs for agents: 2 processes and 0.5 GB instead of 15 and 2.9.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    where = ["--backend-store-uri", tracking_uri or default_uri(results), "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "server", *where, "--workers", "1"]
    os.execv(command[0], command)


@click.command(epilog="Example: gaptune notebook front --edit")
@click.argument("name", metavar="NOTEBOOK", shell_complete=lambda context, parameter, typed: _notebooks(typed))
@click.option("--edit", is_flag=True, help="Open the notebook for editing.")
@port_option(2718, "Port of the notebook on this machine.")
@results_option
def notebook(name: str, edit: bool, port: int, results: Path) -> None:
    """Open a notebook on the newest sweep.

    NOTEBOOK is front, dynamics, or paper. The server is reachable from this machine only.
    """
    import importlib.util

    known = notebooks()
    if name not in known:
        raise UserError(f"unknown notebook {name!r}{did_you_mean(name, known)}")
    if importlib.util.find_spec("marimo") is None:
        raise UserError("notebooks need marimo: pip install 'gaptune[notebooks]'")
    how = ["edit"] if edit else ["run", "--include-code"]
    _check_free(port)
    os.environ["GAPTUNE_RESULTS"] = str(results.resolve())
    command = [sys.executable, "-m", "marimo", *how, str(known[name]), "--host", "127.0.0.1", "--port", str(port)]
    os.execv(command[0], command)


def _notebooks(start: str) -> list[str]:
    """Names of notebooks that start with the incomplete word."""
    return sorted(name for name in notebooks() if name.startswith(start))


def _check_free(port: int) -> None:
    """Checks that nothing listens on a port of this machine.

    Raises:
        UserError: The port is in use.
    """
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(
                f"cannot serve on port {port}: {(error.strerror or str(error)).lower()}; choose another --port"
            ) from None


def _answers(address: str) -> bool:
    """Whether a web server answers at an address, with any response."""
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

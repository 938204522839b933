"""Addresses where no Ray cluster is: one line each, and no hang."""

import http.server
import socket
import threading

import psutil
import pytest
from support import free_port

from gaptune.engine import address
from gaptune.engine.address import check_address
from gaptune.errors import UserError


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("ray://10.0.0.5:10001", "must run on a machine of the cluster"),
        ("http://10.0.0.5:8265", "address of a web page"),
        ("10.0.0.5", "expected HOST:PORT"),
        ("10.0.0.5:", "expected HOST:PORT"),
        ("10.0.0.5:99999", "expected HOST:PORT"),
        ("nowhere.invalid:6379", "no Ray cluster at nowhere.invalid:6379: "),
    ],
)
def test_invalid_address_is_refused_at_once(where, why):
    with pytest.raises(UserError, match=why):
        check_address(where)


def test_port_without_listener_is_refused_at_once():
    with pytest.raises(UserError, match="refused"):
        check_address(f"127.0.0.1:{free_port()}")


def test_server_that_is_no_cluster_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(address, "_ANSWER_S", 2.0)
    mute = socket.create_server(("127.0.0.1", 0))  # takes connections, and never says a word
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    for port in (mute.getsockname()[1], pages.server_port):
        with pytest.raises(UserError, match=f"no Ray cluster at 127.0.0.1:{port}: no answer within 2 s"):
            check_address(f"127.0.0.1:{port}")
    pages.shutdown()
    mute.close()


def test_file_of_an_ended_cluster_is_no_cluster(monkeypatch, tmp_path):
    monkeypatch.setattr(address, "_ANSWER_S", 2.0)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    before = {process.name() for process in psutil.process_iter()}
    try:
        check_address("auto")
    except UserError as error:
        assert str(error).startswith("no Ray cluster at auto: ")  # noqa: PT017 (which of the two depends on the machine)
    else:  # Ray also finds what runs on this machine beside its note: other tests, say
        assert "gcs_server" in before | {process.name() for process in psutil.process_iter()}

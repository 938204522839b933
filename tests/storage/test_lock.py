"""Locks between processes: of the living, the killed, and those on other machines."""

import os
import signal
import subprocess
import sys
import time

import pytest

from gaptune.storage import lock

HOLDER = """
import sys, time
from pathlib import Path
from gaptune.storage import lock
held = lock.acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of ``tmp_path / "lease"``."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "lease")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.whole
def test_lock_of_a_running_process_is_refused_at_once_and_that_of_a_killed_one_is_released(tmp_path, holder):
    path, started = tmp_path / "lease", time.monotonic()
    with pytest.raises(lock.HeldError, match=f"process {holder.pid} on "):
        lock.acquire(path)
    assert time.monotonic() - started < 10
    assert lock.held(path)
    holder.kill()
    holder.wait()
    assert not lock.held(path)
    lock.acquire(path).release()


@pytest.mark.whole
def test_holder_suspended_for_longer_than_its_lease_is_notified(tmp_path, monkeypatch):
    """As on another machine: this host's name is hidden, so that only the refreshed file tells of life."""
    monkeypatch.setattr(lock, "LEASE_S", 2.0)
    monkeypatch.setattr(lock, "_BEAT_S", 0.3)
    script = HOLDER.replace(
        "held = lock.acquire(Path(sys.argv[1]))",
        "import socket; socket.gethostname = lambda: 'elsewhere'\n"
        "lock.LEASE_S, lock._BEAT_S = 2.0, 0.3\n"
        "held = lock.acquire(Path(sys.argv[1]), on_lost=lambda: print('lost', flush=True))",
    )
    path = tmp_path / "lease"
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(lock.HeldError, match="on elsewhere"):  # it is seen to be refreshed
            lock.acquire(path)
        assert lock.held(path)
        os.kill(process.pid, signal.SIGSTOP)
        taken = lock.acquire(path)
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout.readline() == b"lost\n"
        taken.release()
    finally:
        process.kill()
        process.wait()


@pytest.mark.whole
def test_lock_has_one_holder_at_a_time(tmp_path):
    script = """
import sys, time
from pathlib import Path
from gaptune.storage import lock
folder = Path(sys.argv[1])
for _ in range(20):
    with lock.waiting_for(folder / "lease"):
        mark = folder / "inside"
        mark.open("x").close()
        time.sleep(0.002)
        mark.unlink()
"""
    processes = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0, 0, 0, 0]


def test_checking_an_unused_lock_writes_no_file(tmp_path):
    assert not lock.held(tmp_path / "lease")
    assert list(tmp_path.iterdir()) == []

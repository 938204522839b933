"""How gaptune waits for Ray's processes to end; that it leaves none is tested in ``test_hosts``, ``test_signals``."""

import subprocess
import sys

import psutil
from support import is_alive

from gaptune.engine import cluster

PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""


def test_a_killed_process_that_nobody_reaps_is_not_waited_for(monkeypatch):
    """As in a container whose first process does not look after orphans."""
    monkeypatch.setattr(cluster, "_GRACE_S", 1e6)
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        try:
            child = psutil.Process(int(parent.stdout.readline()))
            child.kill()
            cluster._wait_for([child])
            assert child.status() == psutil.STATUS_ZOMBIE
        finally:
            parent.kill()


def test_killed_processes_are_waited_for():
    running = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(2)]
    processes = [psutil.Process(each.pid) for each in running]
    cluster._kill(processes)
    cluster._wait_for(processes)
    assert not any(map(is_alive, processes))
    for each in running:
        each.wait()

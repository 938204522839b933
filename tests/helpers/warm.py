"""``gaptune`` in processes of their own that need not import: each is forked from one that has torch, Ray and MLflow.

Importing them is most of what a short sweep computes, and tests start dozens. So are ``mlflow server`` (in
``mlflow_server.py``), the ``gaptune`` of a shell (``program``), and the workers of a Ray that tests start
(``WORKERS``) or that a forked gaptune starts (``warm_workers``), by ``warm_worker.py``. What a start itself must do is
tested by those that start Python anew: ``test_cli``, ``test_hosts``, ``test_wheel``, the submitted job, and for
``gaptune ui`` ``test_links``.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from functools import cache, partialmethod
from pathlib import Path

LINE = 1 << 20
HEAVY = "mlflow", "open_clip", "gaptune.engine.ray_tune", "gaptune.search.study", "gaptune.cli", "matplotlib.figure"
HEAVY += "mlflow.cli", "mlflow.server.fastapi_app", "uvicorn"
OF_WORKERS = "open_clip", "pandas", "pyarrow", "sklearn.linear_model", "gaptune.trial.loop"
"""What workers need but for Ray, whose C++ reads a worker's environment when it is imported."""
LEAN = {"include_log_monitor": False, "no_monitor": True}
"""For ``ray.cluster_utils.Cluster``: nodes without the process that reads the logs of workers, and no autoscaler."""
WORKERS = {"setup_worker_path": str(Path(__file__).with_name("warm_worker.py"))} | LEAN
"""The same, and its workers are forked; ``workers_are_warm`` must have been called before."""


class Forked:
    """A run of a program, used like a ``Popen`` whose output is kept in a file.

    Args:
        argv: The program, ``gaptune`` or ``mlflow``, and what would be typed after it.
        env: Its environment; None for this process's.
        new_session: Whether it leads a session of its own.
    """

    def __init__(self, *argv, env=None, new_session=False):
        self.returncode = None
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 (as long as it is)
        request = {
            "argv": [*map(str, argv)],
            "cwd": str(Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "new_session": new_session,
        }
        self.pid = _server().start(request, self._out.fileno(), self._err.fileno())

    @property
    def stdout(self):
        return _text(self._out)

    @property
    def stderr(self):
        return _text(self._err)

    def poll(self):
        if self.returncode is None:
            self.returncode = _server().ended(self.pid)
        return self.returncode

    def wait(self, timeout=600):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise subprocess.TimeoutExpired("a forked program", timeout, self.stdout, self.stderr)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, signum):
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Gaptune(Forked):
    """A run of ``gaptune``.

    Args:
        words: What would be typed after ``gaptune``.
        how: What ``Forked`` takes.
    """

    def __init__(self, *words, **how):
        super().__init__("gaptune", *words, **how)


def warm_workers():
    """An environment in which the workers of a Ray that a forked ``gaptune`` starts are forked, too."""
    workers_are_warm()
    return os.environ | {"GAPTUNE_TESTS_OWN_RAY": "1"}


def program(folder):
    """Writes a program ``gaptune`` for shells into a directory."""
    path = folder / "gaptune"
    path.write_text(f"#!{sys.executable} -IS\n{_PROGRAM.format(address=_server().address)}")
    path.chmod(0o755)


_PROGRAM = """
import json, os, socket, sys

with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect("\\0{address}")
    request = {{"argv": ["gaptune", *sys.argv[1:]], "cwd": os.getcwd(), "env": dict(os.environ), "new_session": False}}
    socket.send_fds(server, [json.dumps(request).encode()], [1, 2])
    code = server.recv(8)  # nothing if it is killed
sys.exit(int(code or 1))
"""


def run(*words, timeout=600, code=0, **how):
    """Runs ``gaptune`` to its end, which must be with ``code``; gives it with its output."""
    done = Gaptune(*words, **how)
    done.wait(timeout)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def _text(file):
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


class _Server:
    """A process that has imported; it ends when this one does.

    Args:
        modules: What it imports.
    """

    def __init__(self, modules):
        self._ends, self._lock = {}, threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(f"\0gaptune-tests-{os.getpid()}-{time.time_ns()}")  # no file: the name goes with its processes
        listener.listen()
        self.address = listener.getsockname()[1:].decode()
        numbers = [theirs.fileno(), listener.fileno()]
        command = [sys.executable, __file__, *map(str, numbers), *modules]
        self._process = subprocess.Popen(command, pass_fds=numbers, start_new_session=True)
        theirs.close()
        listener.close()

    def start(self, request, *files):
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            while "pid" not in (said := self._heard()):
                self._ends[said["ended"]] = said["code"]
            return said["pid"]

    def ended(self, pid):
        with self._lock:
            while pid not in self._ends and self._is_ready():
                said = self._heard()
                self._ends[said["ended"]] = said["code"]
            return self._ends.get(pid)

    def _is_ready(self):
        self._socket.setblocking(False)
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self._socket.setblocking(True)

    def _heard(self):
        said = self._socket.recv(LINE)
        assert said, f"the process that gaptune is forked from has ended: {self._process.poll()}"
        return json.loads(said)


@cache
def _server():
    return _Server(HEAVY)


@cache
def workers_are_warm():
    """Starts the process that workers are forked from; they find it by the environment."""
    server = _Server(OF_WORKERS)
    os.environ["GAPTUNE_TESTS_WARM"] = server.address
    return server


def _serve(control, listener):
    """Forks for each request; returns it in a child, which is to run it, with the connection of who waits for it."""
    wakes, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    before = signal.signal(signal.SIGCHLD, lambda signum, frame: None)
    while True:
        ready, _, _ = select.select([control, listener, wakes], [], [])
        if wakes in ready:
            os.read(wakes, 1024)
            _reap(control)
        for asked in {control, listener} & set(ready):
            connection = control if asked is control else listener.accept()[0]
            try:
                line, files, _, _ = socket.recv_fds(connection, LINE, 2)
            except ConnectionError:
                line = b""
            if not line:
                sys.exit()
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, before)
                control.close()
                listener.close()
                for own in (wakes, wake):
                    os.close(own)
                return json.loads(line), files, None if asked is control else connection
            if asked is control:
                control.send(json.dumps({"pid": pid}).encode())
            else:
                connection.close()
            for file in files:
                os.close(file)


def _reap(control):
    """Says which children have ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.send(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _become(request, files, set_by_imports):
    """Makes this process what a shell would have started."""
    if request["new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    before, now = (
        set(filter(None, env.get("PYTHONPATH", "").split(os.pathsep))) for env in (os.environ, request["env"])
    )
    sys.path[:] = [*(now - before), *(folder for folder in sys.path if folder not in before - now)]
    os.environ.clear()
    os.environ.update(set_by_imports | request["env"])
    sys.argv = request["argv"]
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _run_gaptune():
    from ray._private.parameter import RayParams

    from gaptune.cli import main

    if "GAPTUNE_TESTS_OWN_RAY" in os.environ:
        RayParams.__init__ = partialmethod(RayParams.__init__, **WORKERS)
    os.execv = _instead_of_execv
    main()


def _instead_of_execv(program, command):
    """``gaptune ui`` becomes MLflow's server, which is imported already."""
    assert command[1:4] == ["-m", "mlflow", "server"], command
    sys.argv = command[2:]
    _run_mlflow()


def _run_mlflow():
    """MLflow's command line, whose server would be one more process that imports."""
    import mlflow.server
    from mlflow.cli import cli

    def become(command, *, extra_env, **how):
        os.environ.update(extra_env)
        assert command[:3] == [sys.executable, "-m", "uvicorn"], command
        sys.argv = command[2:]
        runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)
        sys.exit()

    mlflow.server._exec_cmd = become
    cli()


def _run_and_exit(waiting):
    """Runs a program, or Ray's own for workers, and ends without taking apart what was imported: seconds."""
    code = 0
    try:
        if sys.argv[0] == "gaptune":
            _run_gaptune()
        elif sys.argv[0] == "mlflow":
            _run_mlflow()
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if waiting is not None:
        with suppress(OSError):  # it has not waited
            waiting.send(str(code).encode())
    os._exit(code)


if __name__ == "__main__":
    from mlflow_tables import copy_tables

    sys.path.pop(0)  # the folder of this file
    numbers, modules = sys.argv[1:3], sys.argv[3:]
    before = dict(os.environ)
    for module in modules:
        importlib.import_module(module)
    if "mlflow" in modules:
        copy_tables()
    set_by_imports = {name: value for name, value in os.environ.items() if before.get(name) != value}
    gc.freeze()  # a collection in a child would copy every page that the imports filled
    request, files, waiting = _serve(*(socket.socket(fileno=int(number)) for number in numbers))
    _become(request, files, set_by_imports)
    _run_and_exit(waiting)

"""An MLflow server that can be killed and started again."""

import os
import signal

from support import free_port, wait_until_up
from warm import Forked


class MlflowServer:
    """``mlflow server`` on a store and a port of its own; ``start`` it.

    Args:
        folder: Directory of its store and artifacts.
    """

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self._words = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--host", "127.0.0.1", "--port", port]
        self._words += ["--artifacts-destination", folder / "artifacts", "--workers", "1"]

    def start(self):
        env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # three processes that nothing here needs
        self._process = Forked("mlflow", "server", *self._words, env=env, new_session=True)
        wait_until_up(self.uri, self._process)

    def kill(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

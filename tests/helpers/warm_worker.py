"""In place of Ray's ``setup_worker.py``: has a worker forked from the process of ``warm.py``, and ends."""

import json
import os
import socket
import sys

ARGV = [word for word in sys.argv[1:] if not word.startswith(("--language=", "--serialized-runtime-env-context="))]
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect(f"\0{os.environ['GAPTUNE_TESTS_WARM']}")
    request = {"argv": ARGV, "cwd": os.getcwd(), "env": dict(os.environ), "new_session": True}  # noqa: PTH109
    socket.send_fds(server, [json.dumps(request).encode()], [1, 2])

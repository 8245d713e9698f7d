"""Starts a Prefect server for a run if none is configured: a child process that ends with the run's process.

Prefect can start one itself, but only after it has imported all of Prefect, with the server, in the run's
process; this one is imported at the same time as everything else. Its socket listens from the start, so no
polling is needed: the first request waits until the server answers.
"""

import atexit
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import cache

_HOST = "127.0.0.1"
_END_S = 10.0
"""After this long without ending by itself, the server is killed. It ends within a second; a longer time
keeps a person waiting at the end of a run whose server hangs, a shorter one could kill a server that still
writes its database. Not measured on slow disks."""
_ADDRESS = "PREFECT_API_URL"


def start_if_needed() -> str | None:
    """Start it, once per process, unless the environment names a server; returns the address of its API.

    A server may be named in Prefect's profile too, which takes a second to read: the child process reads it,
    and ends if so.
    """
    return None if os.environ.get(_ADDRESS) else _start()


@cache
def _start() -> str:
    with socket.create_server((_HOST, 0)) as listening:
        number, port = listening.fileno(), listening.getsockname()[1]
        server = subprocess.Popen(  # noqa: S603 - this file, in this Python
            [sys.executable, "-m", "flows.ownserver", str(number)],
            stdin=subprocess.PIPE,
            pass_fds=[number],
            # Ctrl-C is for the run, which reports to the server how it ended.
            start_new_session=True,
        )
    # Functions registered first are called last: Prefect sends its remaining logs and events before.
    atexit.register(_end, server)
    return f"http://{_HOST}:{port}/api"


def _end(server: subprocess.Popen[bytes]) -> None:
    """Close the pipe, which ends the server."""
    if server.stdin:
        server.stdin.close()
    try:
        server.wait(_END_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def main(number: str) -> None:
    """Serve on the socket of this number until standard input ends."""
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    # Importing makes no garbage; collecting it takes a fifth of the time.
    gc.disable()
    import uvicorn  # noqa: PLC0415 - from here on it takes seconds, and the run may end meanwhile
    from prefect.server.api.server import create_app  # noqa: PLC0415
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE  # noqa: PLC0415

    if PREFECT_API_URL.value() or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        return
    app = create_app(ephemeral=True, final=True)
    gc.freeze()
    gc.enable()
    with socket.socket(fileno=int(number)) as listening:
        uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run([listening])


def _end_with_the_run() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)
    # The run's process may have been killed, so nothing else ends a server that hangs.
    time.sleep(_END_S)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Seconds until help is there, and until the first request of a run on a local file.

    python -m tests.bench.startup

From the start of the process to the arrival of its first request at the endpoint: with a Prefect server of
the run's own, whose first start on a machine also makes its database, and with `--no-prefect`. The first run
of all, which may compile bytecode, is not counted.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_control import RemoteEndpoint
from tasks.local.endpoint_process import spawn
from tests.bench.measuring import environment, flags, measured, median, note, print_table, write_source
from tests.prefectserver import run_of

_HELP = (sys.executable, "-m", "flows", "--help")
_FLAG = "--no-prefect"


def main() -> None:
    """Measure each in turn, then print."""
    parser = flags(__doc__)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, spawn(EndpointConfig()) as endpoint:
        source = Path(folder, "in")
        write_source(source, [options.rows])
        first_request_s(Path(folder, "warm"), source, endpoint)
        for number in range(options.rounds):
            home = Path(folder, str(number))
            seconds = {
                "--help": measured(*_HELP).seconds,
                "first request, new Prefect database": first_request_s(home, source, endpoint),
                "first request": first_request_s(home, source, endpoint),
                f"first request, {_FLAG}": first_request_s(home, source, endpoint, _FLAG),
            }
            note(seconds)
            figures += [{"round": number, "what": what, "seconds": took} for what, took in seconds.items()]
    rows = [{"": what, "seconds": f"{median(figures, 'seconds', what=what):.2f}"} for what in seconds]
    print_table("From the start of the process", rows, figures, options.json)


def first_request_s(home: Path, source: Path, endpoint: RemoteEndpoint, *more: str) -> float:
    """Seconds from the start of a whole run to its first request; Prefect's files are in the home."""
    endpoint.reset()
    with TemporaryDirectory() as out:
        command = run_of(str(source), out, "--prompt", "Be brief.", *more)
        ended = measured(*command, env=environment(endpoint, home))
    arrived_s = endpoint.stats().first_request_s
    assert arrived_s is not None, "no request arrived"
    return arrived_s - ended.began_s


if __name__ == "__main__":
    main()

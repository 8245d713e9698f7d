"""What whole runs do when the store or Prefect's server fails in the middle, for a while or for good.

    python -m tests.bench.outages --case store-hangs server-gone

Each case is a run on the real S3 server behind a proxy that fails on purpose, and a rerun when all is well.
Tells the seconds from the fault to the end of the run, its exit code, and how many requests were paid again;
fails when the output is wrong.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import Popen

from s3fs import S3FileSystem

from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_control import Endpoint
from tasks.local.endpoint_process import spawn
from tests.bench.measuring import flags, note, print_table, variables
from tests.core_runs import names, read, write
from tests.faulty_s3_proxy import FaultyProxy, Kind, faulty_proxy
from tests.prefectserver import PrefectServer, free_port, kill_group, process, run_of, wait_until
from tests.s3server import S3Server, running_s3_server

ROWS = 2000
TEXTS = [f"This is row {n}. And more." for n in range(ROWS)]
FLAGS = ("--max-concurrent", "20")
_FAULT_AFTER_REPLIES = 500


@dataclass(frozen=True, slots=True)
class Scene:
    """The real parts of a case.

    Attributes:
        folder: In a bucket; holds the source ``in``.
        llm: The counting endpoint.
        proxy: Before the store.
        prefect: Where Prefect's server is.
        server: Its process.
    """

    folder: str
    llm: Endpoint
    proxy: FaultyProxy
    prefect: PrefectServer
    server: Popen[bytes]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        case: Which.
        seconds: From the fault to the end of the run.
        exit_code: The run's.
        published: Whether its output was there.
        paid: Replies sent until then.
        paid_again: Requests of run and rerun together beyond one per row.
        rerun_s: Seconds the rerun took.
    """

    case: str
    seconds: float
    exit_code: int
    published: bool
    paid: int
    paid_again: int
    rerun_s: float


def _store(kind: Kind, for_s: float | None = None) -> Callable[[Scene], None]:
    def fail(scene: Scene) -> None:
        scene.proxy.inject(kind)
        if for_s:
            threading.Timer(for_s, scene.proxy.heal).start()

    return fail


def _kill_server(scene: Scene) -> None:
    kill_group(scene.server)


CASES: dict[str, Callable[[Scene], None]] = {
    "store-503-20s": _store("503", 20),
    "store-503": _store("503"),
    "store-hangs-20s": _store("hang", 20),
    "store-hangs": _store("hang"),
    "store-drops": _store("drop"),
    "server-back-8s": _kill_server,
    "server-gone": _kill_server,
}


def main() -> None:
    """Try every case, then print."""
    parser = flags(__doc__)
    parser.add_argument("--case", choices=[*CASES], nargs="+", default=[*CASES])
    parser.add_argument("--latency-ms", type=float, default=100.0)
    options = parser.parse_args()
    endings = [_ending(case, options.latency_ms) for case in options.case]
    figures = [asdict(ending) for ending in endings]
    rows = [{name.replace("_", " "): str(value) for name, value in figure.items()} for figure in figures]
    print_table("store or server failing in the middle", rows, figures, options.json)


def _ending(case: str, latency_ms: float) -> Ending:
    # Clients are kept by their arguments, and the address is none of them.
    S3FileSystem.clear_instance_cache()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (home / "s3").mkdir()
        (home / "scratch").mkdir()
        store = stack.enter_context(running_s3_server(home / "s3"))
        llm = stack.enter_context(spawn(EndpointConfig(latency_ms=latency_ms)))
        os.environ.update(store.environment | {"TMPDIR": f"{home}/scratch"})
        folder = store.new_bucket()
        write(f"{folder}/in", TEXTS)
        proxy = stack.enter_context(faulty_proxy(store.url))
        prefect = PrefectServer(free_port(), home / "prefect")
        server = stack.enter_context(prefect.running())
        scene = Scene(folder, llm, proxy, prefect, server)
        ending = _run(case, scene, _environment(scene, store), stack)
        note(ending)
        return ending


def _run(case: str, scene: Scene, env: dict[str, str], stack: ExitStack) -> Ending:
    command = run_of(f"{scene.folder}/in", f"{scene.folder}/out", *FLAGS)
    log = Path(f"outages-{case}.log")
    with process(*command, env=env, log=log) as run:
        wait_until(lambda: scene.llm.stats().paid >= _FAULT_AFTER_REPLIES, 120)
        began_s = time.monotonic()
        CASES[case](scene)
        if case == "server-back-8s":
            threading.Event().wait(8)
            stack.enter_context(scene.prefect.running())
        code, seconds = run.wait(900), time.monotonic() - began_s
    scene.proxy.heal()
    paid, published = scene.llm.stats().paid, "part.parquet" in names(f"{scene.folder}/out")
    if case == "server-gone":
        stack.enter_context(scene.prefect.running())
    began_s = time.monotonic()
    with process(*command, env=env, log=log) as rerun:
        assert rerun.wait(300) == 0, f"the rerun failed, see {log}"
    rerun_s = time.monotonic() - began_s
    expected = [f"This is row {n}." for n in range(ROWS)]
    assert read(f"{scene.folder}/out")["summary"].to_pylist() == expected, "the output is wrong"
    paid_again = scene.llm.stats().requests - ROWS
    return Ending(case, round(seconds, 1), code, published, paid, paid_again, round(rerun_s, 1))


def _environment(scene: Scene, store: S3Server) -> dict[str, str]:
    return {
        **scene.prefect.env,
        **store.environment,
        "AWS_ENDPOINT_URL": scene.proxy.url,
        **variables(scene.llm),
    }


if __name__ == "__main__":
    main()

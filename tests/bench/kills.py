"""What a run that is killed pays again: kill -9 at random moments, each followed by a rerun to the end.

    python -m tests.bench.kills --kills 20

Every run is `python -m flows run` as a process group of its own, killed whole; one Prefect server serves them
all, or with `--own-server` each starts and loses its own. Checks each time that the output is the undisturbed
one and that no row in the ledger was asked again; prints how many requests each kill cost beyond one per row.
"""

import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from tasks.core.ledger.segment_store import SegmentStore
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_control import Endpoint
from tasks.local.endpoint_process import spawn
from tests.bench.measuring import flags, note, print_table, variables
from tests.core_runs import job_of, names, read, write
from tests.prefectserver import PrefectServer, free_port, kill_group, process, run_of, wait_until
from tests.s3server import running_s3_server

KEY = "part.parquet"
WINDOW = 20
FLAGS = ("--prompt", "Summarize.", "--max-concurrent", f"{WINDOW}")
_COMMIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill and its rerun.

    Attributes:
        after_s: Seconds from the first request to the kill.
        replies: Replies sent until then.
        in_flight: Requests in flight then.
        kept: Rows in the ledger, or in the output, afterwards.
        paid_again: Requests of both runs together beyond one per row.
    """

    after_s: float
    replies: int
    in_flight: int
    kept: int
    paid_again: int


@dataclass(frozen=True, slots=True)
class Scene:
    """Where runs are killed.

    Attributes:
        folder: Holds the source ``in``.
        llm: The counting endpoint.
        texts: The source's rows.
        latency_s: Of the endpoint.
    """

    folder: str
    llm: Endpoint
    texts: Sequence[str]
    latency_s: float

    @property
    def most_paid_again(self) -> int:
        """What was in flight and the replies of one commit interval, and half a second to store them."""
        return WINDOW + round((_COMMIT_S + 0.5) * WINDOW / self.latency_s)

    def undisturbed(self) -> tuple[pa.Table, float]:
        """The output of a run nobody disturbs, and the seconds from its first request to its end."""
        with process(*self._run("undisturbed")) as running:
            wait_until(lambda: self.llm.stats().requests > 0)
            began_s = time.monotonic()
            assert running.wait(300) == 0
        return read(f"{self.folder}/undisturbed"), time.monotonic() - began_s

    def kill(self, after_s: float, expected: pa.Table, out: str) -> Kill:
        """Kill a run so long after its first request, run again to the end, and check everything."""
        self.llm.reset()
        with process(*self._run(out)) as running:
            wait_until(lambda: self.llm.stats().requests > 0)
            threading.Event().wait(after_s)
            at_kill = self.llm.stats()
            kill_group(running)
        wait_until(lambda: self.llm.stats().in_flight == 0)
        kept = self._kept(out)
        asked = {text: self.llm.requests_for(text) for text in kept}
        with process(*self._run(out)) as running:
            assert running.wait(300) == 0
        assert read(f"{self.folder}/{out}").equals(expected), "the output is not the undisturbed one"
        again = [text for text, count in asked.items() if self.llm.requests_for(text) != count]
        assert not again, f"{len(again)} rows of the ledger were asked again"
        paid_again = self.llm.stats().requests - len(self.texts)
        assert paid_again <= self.most_paid_again, f"{paid_again} requests paid again"
        return Kill(round(after_s, 2), at_kill.paid, at_kill.in_flight, len(kept), paid_again)

    def _run(self, out: str) -> tuple[str, ...]:
        return run_of(f"{self.folder}/in", f"{self.folder}/{out}", *FLAGS)

    def _kept(self, out: str) -> list[str]:
        """Texts whose replies are durable."""
        if KEY in names(f"{self.folder}/{out}"):
            return [*self.texts]
        job = job_of(f"{self.folder}/in", f"{self.folder}/{out}")
        keys = dict(zip(job.request.row_keys(self.texts), self.texts, strict=True))
        tables = SegmentStore(job.destination, KEY, job.request.fingerprint).read()
        return [keys[key] for key in {key for table in tables for key in table["key"].to_pylist()}]


def main() -> None:
    """Kill, then print."""
    parser = flags(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--latency-ms", type=float, default=100.0)
    parser.add_argument("--store", choices=["s3", "local"], default="s3")
    parser.add_argument(
        "--own-server", action="store_true", help="every run starts a Prefect server of its own"
    )
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        llm = stack.enter_context(spawn(EndpointConfig(latency_ms=options.latency_ms)))
        os.environ.update(variables(llm, home / "prefect"))
        if not options.own_server:
            prefect = PrefectServer(free_port(), home / "prefect")
            stack.enter_context(prefect.running())
            os.environ["PREFECT_API_URL"] = prefect.url
        folder = str(home)
        if options.store == "s3":
            (home / "s3").mkdir()
            server = stack.enter_context(running_s3_server(home / "s3"))
            os.environ.update(server.environment)
            folder = server.new_bucket()
        texts = [f"This is row {n}. And more." for n in range(options.rows)]
        write(f"{folder}/in", texts)
        kills = _kills(Scene(folder, llm, texts, options.latency_ms / 1000), options.kills, options.seed)
    _tell(kills, options.json)


def _kills(scene: Scene, count: int, seed: int) -> list[Kill]:
    chance, kills = random.Random(seed), []
    expected, took_s = scene.undisturbed()
    for number in range(count):
        kills.append(scene.kill(chance.uniform(0, took_s), expected, f"out-{number}"))
        note(kills[-1])
    return kills


def _tell(kills: Sequence[Kill], json_path: Path | None) -> None:
    figures = [asdict(kill) for kill in sorted(kills, key=lambda kill: kill.after_s)]
    rows = [{name.replace("_", " "): str(value) for name, value in figure.items()} for figure in figures]
    print_table("runs killed", rows, figures, json_path)
    paid = sorted(kill.paid_again for kill in kills)
    print(
        f"{len(kills)} kills, paid again: least {paid[0]}, median {statistics.median(paid):.0f}, "
        f"most {paid[-1]}; rows lost 0, wrong 0, rows of the ledger asked again 0"
    )


if __name__ == "__main__":
    main()

"""How long a run takes that finds everything finished: listing, footers, and nothing to do.

    python -m tests.bench.finished --partitions 10000 --store s3

Every run is a process of its own, and one with a single partition shows what starting costs. Fails if one
request reaches the endpoint.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks.core.storage.discovery import discover
from tasks.core.storage.location import Location, locate
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_control import Endpoint
from tasks.local.endpoint_process import spawn
from tests.bench.measuring import flags, print_table, variables
from tests.core_runs import job_of, write
from tests.enriched_files import Echo, run_partition
from tests.prefectserver import run_of
from tests.s3server import running_s3_server

ROWS = 10
TEXTS = [f"This is row {n}. And more." for n in range(ROWS)]
_AT_ONCE = 16


def main() -> None:
    """Make finished partitions, run, print."""
    parser = flags(__doc__)
    parser.add_argument("--partitions", type=int, nargs="+", default=[1, 10_000])
    parser.add_argument("--store", choices=["s3", "local"], default="s3")
    options = parser.parse_args()
    figures = []
    with scene(options.store) as (base, llm):
        for count in options.partitions:
            folder = f"{base}/{count}"
            make(folder, count)
            began_s = time.monotonic()
            reported = run(folder)
            seconds = time.monotonic() - began_s
            flow_s = float(re.search(r"time\s+│ ([0-9.]+) s", reported)[1])  # type: ignore[index]  # every report has it
            if llm.stats().requests or f"Nothing to do: {count} partitions" not in reported:
                raise SystemExit(reported)
            figures.append(
                {"store": options.store, "partitions": count, "seconds": round(seconds, 1), "flow": flow_s}
            )
    heads = {"partitions": "partitions", "seconds": "seconds", "of which the flow": "flow"}
    rows = [{head: f"{figure[name]:,}" for head, name in heads.items()} for figure in figures]
    print_table(f"finished partitions, {options.store}", rows, figures, options.json)


@contextmanager
def scene(store: str) -> Iterator[tuple[str, Endpoint]]:
    """A folder or bucket, and an endpoint; the environment points at both."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        llm = stack.enter_context(spawn(EndpointConfig()))
        os.environ.update(variables(llm, home / "prefect"))
        if store == "local":
            yield str(home), llm
            return
        (home / "s3").mkdir()
        server = stack.enter_context(running_s3_server(home / "s3"))
        os.environ.update(server.environment)
        yield server.new_bucket(), llm


def make(folder: str, count: int) -> None:
    """Partitions and their finished outputs, made without a request."""
    place = locate(folder)
    keys = [f"day={n % 100:02}/part-{n:05}.parquet" for n in range(count)]
    write(f"{folder}/in", TEXTS, keys[0])
    if not place.is_local:
        # Equal bytes have equal versions there, so one output is good for all.
        finish(folder)
        for part in ("in", "out"):
            _copy(place, part, keys)
        return
    data = place.fs.cat_file(place.path(f"in/{keys[0]}"))
    for key in keys[1:]:
        place.fs.makedirs(place.path(f"in/{key}").rpartition("/")[0], exist_ok=True)
        place.fs.pipe_file(place.path(f"in/{key}"), data)
    finish(folder)


def finish(folder: str) -> None:
    """Publish every partition as the product does, with replies that were not requested."""
    job = job_of(f"{folder}/in", f"{folder}/out")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = discover(job.pattern).partitions
        list(pool.map(lambda partition: run_partition(partition, job, Echo()), found))


def run(folder: str) -> str:
    """A whole run; returns what it printed."""
    ended = subprocess.run(
        run_of(f"{folder}/in", f"{folder}/out", "--prompt", "Summarize."),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
        text=True,
    )
    if ended.returncode:
        raise SystemExit(ended.stdout)
    return ended.stdout


def _copy(place: Location, part: str, keys: list[str]) -> None:
    data = place.fs.cat_file(place.path(f"{part}/{keys[0]}"))
    place.fs.pipe({place.path(f"{part}/{key}"): data for key in keys[1:]})


if __name__ == "__main__":
    main()

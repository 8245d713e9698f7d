"""Four ways to summarize the same partitions, measured by the endpoint's counters and the process's CPU time.

- recipe: LlamaIndex's AzureOpenAI with its default HTTP client, a semaphore and `asyncio.gather`
- bare: aiohttp and a pool of workers that send requests and discard the replies
- product: this product's command line, `python -m flows run`, with its own Prefect server, a ledger, and
  source and destination on the local disk
- direct: the same with `--no-prefect`

Each way runs in its own process. `python -m tests.bench.ways bare URL SOURCE WINDOW` runs `bare` or `recipe`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from tasks.local.counters import Stats
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_control import RemoteEndpoint
from tasks.local.endpoint_process import spawn
from tests.bench.measuring import DEPLOYMENT, KEY, Ended, environment, measured, note
from tests.prefectserver import run_of

_VERSION = "2024-10-21"
PRODUCT, DIRECT = "product", "direct"
_FIRST_START = "import prefect; prefect.flow(lambda: 0, name='first-start')()"


def recipe(url: str, texts: Iterable[str], window: int) -> None:
    """The plain recipe, as it is usually published."""
    from llama_index.core.prompts import ChatPromptTemplate  # noqa: PLC0415 - each process loads what it measures
    from llama_index.llms.azure_openai import AzureOpenAI  # noqa: PLC0415

    template = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{text}")])

    async def run() -> None:
        slots = asyncio.Semaphore(window)
        llm = AzureOpenAI(
            engine=DEPLOYMENT,
            model=DEPLOYMENT,
            azure_endpoint=url,
            api_key=KEY,
            api_version=_VERSION,
            temperature=0.0,
        )

        async def one(text: str) -> None:
            async with slots:
                await llm.achat(template.format_messages(text=text))

        await asyncio.gather(*(one(text) for text in texts))

    asyncio.run(run())


def bare(url: str, texts: Iterable[str], window: int) -> None:
    """The minimum: HTTP requests only."""
    import aiohttp  # noqa: PLC0415

    async def run() -> None:
        connector = aiohttp.TCPConnector(limit=window)
        address = f"{url}/openai/deployments/{DEPLOYMENT}/chat/completions?api-version={_VERSION}"
        async with aiohttp.ClientSession(connector=connector, headers={"api-key": KEY}) as session:
            waiting = iter(texts)

            async def work() -> None:
                for text in waiting:
                    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 256}
                    async with session.post(address, json=body) as reply:
                        reply.raise_for_status()
                        await reply.json()

            await asyncio.gather(*(work() for _ in range(window)))

    asyncio.run(run())


PEERS: dict[str, Callable[[str, Iterable[str], int], None]] = {"recipe": recipe, "bare": bare}


@dataclass(frozen=True, slots=True)
class Figure:
    """Measurements of one run.

    Attributes:
        way: The way.
        rows: Number of rows.
        rows_per_s: Rows per second from the first request's arrival at the endpoint to its last reply. This
            includes the end of the run, when fewer rows are left than the window allows.
        steady_per_s: The same without that end: the rows after the first window, over the time from the first
            to the last request's arrival. The ideal is window / mean latency. None if all rows fit into one
            window.
        cpu_s: CPU seconds of the process and its child processes, startup included, endpoint excluded.
        first_request_s: Seconds from the process's start to the first request.
        published_s: Seconds from the process's start to the last published partition; None without one.
    """

    way: str
    rows: int
    rows_per_s: float
    steady_per_s: float | None
    cpu_s: float
    first_request_s: float
    published_s: float | None

    @classmethod
    def of(cls, way: str, window: int, stats: Stats, ended: Ended, published_s: float | None) -> "Figure":
        """Compute the figures from the endpoint's counters."""
        first_s, last_s, reply_s = stats.first_request_s, stats.last_request_s, stats.last_reply_s
        assert first_s is not None, "no request arrived"
        assert last_s is not None
        assert reply_s is not None, "no request was answered"
        return cls(
            way=way,
            rows=stats.rows,
            rows_per_s=stats.rows / (reply_s - first_s),
            steady_per_s=(stats.rows - window) / (last_s - first_s) if stats.rows > window else None,
            cpu_s=ended.cpu_s,
            first_request_s=first_s - ended.began_s,
            published_s=published_s,
        )


@dataclass(frozen=True, slots=True)
class BenchSetup:
    """An endpoint and a folder for the benchmarked runs.

    Attributes:
        endpoint: The endpoint, in its own process.
        folder: A temporary folder; it contains Prefect's files, which are created before the measurements.
    """

    endpoint: RemoteEndpoint
    folder: Path

    def run(self, way: str, source: Path, rows: int, window: int, number: int) -> Figure:
        """Run one way over all partitions of a source.

        Args:
            way: The product, with or without Prefect, or a peer.
            source: The folder of the partitions.
            rows: Their number of rows.
            window: Maximum number of requests in flight.
            number: The round; it is the endpoint's seed, so that latencies are the same in all ways.
        """
        self.endpoint.configure(seed=number)
        self.endpoint.reset()
        if way in PEERS:
            arguments = (way, self.endpoint.url, str(source), str(window))
            ended, published_s = measured(sys.executable, "-m", "tests.bench.ways", *arguments), None
        else:
            ended, published_s = self._product(way, source, window)
        stats = self.endpoint.stats()
        if (stats.requests, stats.paid, stats.rows) != (rows, rows, rows):
            message = f"{way}: {rows} rows, but the endpoint counted {stats}\n{ended.output}"
            raise SystemExit(message)
        figure = Figure.of(way, window, stats, ended, published_s)
        note(json.dumps({"round": number} | asdict(figure)))
        return figure

    def _product(self, way: str, source: Path, window: int) -> tuple[Ended, float]:
        arguments = ["--prompt", "Be brief.", "--max-concurrent", str(window)]
        arguments += ["--no-prefect"] if way == DIRECT else []
        with TemporaryDirectory(dir=self.folder) as out:
            began_s = time.time()
            ended = measured(*run_of(str(source), out, *arguments), env=self.environment)
            published = list(Path(out).glob("*.parquet"))
            if len(published) != len(list(source.glob("*.parquet"))):
                message = f"{way}: not all partitions were published\n{ended.output}"
                raise SystemExit(message)
            # ctime is the time of the rename; mtime is older.
            return ended, max(path.stat().st_ctime for path in published) - began_s

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the product's runs."""
        return environment(self.endpoint, self.folder / "prefect")


@contextmanager
def bench_setup(latency_ms: float, sigma: float) -> Iterator[BenchSetup]:
    """Start an endpoint and create a folder until the block ends."""
    config = EndpointConfig(latency_ms=latency_ms, sigma=sigma)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, spawn(config) as endpoint:
        made = BenchSetup(endpoint, Path(folder))
        # Prefect creates its database at its first start, which must not be measured.
        measured(sys.executable, "-c", _FIRST_START, env=made.environment)
        yield made


def main(arguments: Sequence[str]) -> None:
    """Run a peer over all partitions of a folder."""
    way, url, source, window = arguments
    paths = sorted(Path(source).glob("*.parquet"))
    texts = [text for path in paths for text in pq.read_table(path)["body"].to_pylist()]
    PEERS[way](url, texts, int(window))


if __name__ == "__main__":
    main(sys.argv[1:])

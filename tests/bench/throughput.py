"""Rows per second and CPU per 1,000 rows, side by side on the same rows.

    python -m tests.bench.throughput --rows 3000 --latency-ms 50 --max-concurrent 64

Ways compared, each in a process of its own, in turn, several rounds, against one endpoint:

- recipe: LlamaIndex's AzureOpenAI with its default HTTP client, a semaphore and `asyncio.gather`
- llamaindex, lean: this product from opened to published partition, with each of its clients
- bare: aiohttp and a pool of workers that post ready-made bytes and keep nothing

Prints medians and their ratio to the recipe, and writes JSON.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from tasks.local.config import EndpointConfig
from tasks.local.spawn import spawn

_SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "
_MODEL, _VERSION = "gpt-4o-mini", "2024-10-21"


def texts(rows: int) -> list[str]:
    """2 kB each, every one different."""
    return [f"Row {number}. {_SENTENCE * 30}" for number in range(rows)]


def recipe(url: str, rows: int, window: int) -> None:
    """The plain recipe, as it is usually published."""
    from llama_index.core.prompts import ChatPromptTemplate  # noqa: PLC0415 - each process loads what it measures
    from llama_index.llms.azure_openai import AzureOpenAI  # noqa: PLC0415

    template = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{text}")])

    async def run() -> None:
        slots = asyncio.Semaphore(window)
        llm = AzureOpenAI(
            engine=_MODEL,
            model=_MODEL,
            azure_endpoint=url,
            api_key="bench",
            api_version=_VERSION,
            temperature=0.0,
        )

        async def one(text: str) -> None:
            async with slots:
                await llm.achat(template.format_messages(text=text))

        await asyncio.gather(*(one(text) for text in texts(rows)))

    asyncio.run(run())


def bare(url: str, rows: int, window: int) -> None:
    """The floor: nothing but HTTP."""
    import aiohttp  # noqa: PLC0415

    async def run() -> None:
        connector = aiohttp.TCPConnector(limit=window)
        address = f"{url}/openai/deployments/{_MODEL}/chat/completions?api-version={_VERSION}"
        async with aiohttp.ClientSession(connector=connector, headers={"api-key": "bench"}) as session:
            waiting = iter(texts(rows))

            async def work() -> None:
                for text in waiting:
                    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 256}
                    async with session.post(address, json=body) as reply:
                        await reply.json()

            await asyncio.gather(*(work() for _ in range(window)))

    asyncio.run(run())


def product(client: Literal["llamaindex", "lean"]) -> Callable[[str, int, int], None]:
    """This product, Parquet in and out, without Prefect around it."""

    def run(url: str, rows: int, window: int) -> None:
        import os  # noqa: PLC0415

        from tasks.core.discovery import discover  # noqa: PLC0415
        from tasks.core.gateway import open_gateway  # noqa: PLC0415
        from tasks.core.job import prepare  # noqa: PLC0415
        from tasks.core.ledger import Ledger  # noqa: PLC0415
        from tasks.core.options import LimitOptions, ModelOptions, OutputOptions  # noqa: PLC0415
        from tasks.core.partition import summarize_partition  # noqa: PLC0415
        from tasks.core.settings import Settings  # noqa: PLC0415

        os.environ.update(
            AZURE_OPENAI_ENDPOINT=url, AZURE_OPENAI_API_KEY="bench", AZURE_OPENAI_DEPLOYMENT=_MODEL
        )
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "in").mkdir()
            pq.write_table(pa.table({"body": texts(rows)}), f"{folder}/in/a.parquet")
            settings = Settings.from_environment()
            job = prepare(
                f"{folder}/in", f"{folder}/out", "body", prompt="Be brief.",
                model=ModelOptions(client=client), output=OutputOptions(), settings=settings,
            )  # fmt: skip
            [partition] = discover(job.pattern).partitions
            limits = LimitOptions(max_concurrent=window)
            with (
                Ledger(job.destination) as ledger,
                open_gateway(settings, job.request, limits, client) as gateway,
            ):
                summarize_partition(partition, job, gateway, ledger)

    return run


WAYS: dict[str, Callable[[str, int, int], None]] = {
    "recipe": recipe,
    "llamaindex": product("llamaindex"),
    "lean": product("lean"),
    "bare": bare,
}


def main() -> None:
    """Measure every way in turn, then tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument(
        "--sigma", type=float, default=0.0, help="spread of a lognormal latency; 0 keeps it fixed"
    )
    parser.add_argument("--max-concurrent", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", default="throughput.json", help="where to write the figures")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        _measure(options)
        return
    figures = list(_rounds(options))
    Path(options.json).write_text(json.dumps(figures, indent=1))
    Console().print(_table(figures))


def _measure(options: argparse.Namespace) -> None:
    way = WAYS[options.way]
    # Once for the imports, which are not what is compared.
    way(options.url, 1, 1)
    before, began_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    way(options.url, options.rows, options.max_concurrent)
    seconds, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"rows_per_s": options.rows / seconds, "cpu_s_per_1000": cpu_s / options.rows * 1000}))


def _rounds(options: argparse.Namespace) -> Iterator[dict[str, float | str]]:
    with spawn(EndpointConfig(latency_ms=options.latency_ms, sigma=options.sigma)) as endpoint:
        for _ in range(options.rounds):
            for way in WAYS:
                command = [
                    sys.executable,
                    "-m",
                    "tests.bench.throughput",
                    "--way",
                    way,
                    "--url",
                    endpoint.url,
                ]
                command += ["--rows", str(options.rows), "--max-concurrent", str(options.max_concurrent)]
                told = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True
                )
                yield {"way": way, **json.loads(told.stdout.splitlines()[-1])}


def _table(figures: list[dict[str, float | str]]) -> Table:
    def median(way: str, name: str) -> float:
        return statistics.median(float(figure[name]) for figure in figures if figure["way"] == way)

    table = Table("way", "rows/s", "times the recipe", "CPU s per 1,000 rows", "of the recipe's")
    for way in WAYS:
        rate, cpu_s = median(way, "rows_per_s"), median(way, "cpu_s_per_1000")
        table.add_row(
            way,
            f"{rate:.0f}",
            f"{rate / median('recipe', 'rows_per_s'):.1f}",
            f"{cpu_s:.2f}",
            f"{cpu_s / median('recipe', 'cpu_s_per_1000'):.2f}",
        )
    return table


if __name__ == "__main__":
    main()

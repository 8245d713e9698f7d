"""The pictures of README.md, taken from a real run on this machine: the form, the run, its report.

    python -m tests.bench.screenshots

Starts what the tests start: an endpoint, an S3 server, a Prefect server and a worker. Needs Chromium.
"""

import argparse
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tasks.local.endpoint import serve
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.sample import write_sample
from tests.browser import open_page
from tests.prefect_installation import Installation, installed
from tests.prefectserver import ROOT

COLORS = 64
_SETTLED_S = 3.0


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.screenshots", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".github" / "images", help="where to")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve(EndpointConfig(latency_ms=400)) as llm,
        installed(Path(scratch), llm, {}) as prefect,
        open_page(Path(scratch) / "profile") as page,
    ):
        _take(page, prefect, folder)


def _take(page: Page, prefect: Installation, folder: Path) -> None:
    write_sample(prefect.cwd / "samples" / "source", rows=2000, partitions=6)
    page.goto(f"{prefect.page}/v2/deployments/deployment/{prefect.deployment()['id']}/run")
    page.get_by_label("Requests in flight").wait_for()
    _shoot(page, folder / "form.png")
    run = prefect.start()
    page.goto(f"{prefect.page}/v2/runs/flow-run/{run}")
    page.get_by_text("Running", exact=True).first.wait_for()
    prefect.until(lambda: prefect.endpoint.stats().answered > 600)
    # A fresh page draws its chart right, and the tasks show more than the first log lines.
    page.reload()
    page.get_by_role("tab", name="Task Runs").click()
    page.get_by_text("part-0000.parquet").first.wait_for()
    _shoot(page, folder / "running.png")
    prefect.ended(run)
    [report, *_] = prefect.api(
        "artifacts/filter",
        {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"any_": ["markdown"]}}},
    )
    page.goto(f"{prefect.page}/v2/artifacts/artifact/{report['id']}")
    page.get_by_text("partitions").first.wait_for()
    _shoot(page, folder / "report.png")


def _shoot(page: Page, path: Path) -> None:
    """A picture with few colors, which is all a page has."""
    # Charts move into place, and no event says when they have.
    time.sleep(_SETTLED_S)
    page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLORS).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

"""What people see: Prefect's pages in a real browser, against a real server and worker.

Skipped where Chromium is not installed; `.ci/run` installs it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser import CHROMIUM, open_page
from tests.prefect_installation import Installation

TRIES = 5
TITLES = ["Source", "Destination", "Text column", "Prompt", "Model", "Limits", "Output", "Run", "Prices"]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def browser_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(browser_page: Page, prefect: Installation) -> Page:
    prefect.endpoint.configure(api_key=None, latency_ms=0)
    prefect.endpoint.reset()
    return browser_page


def open_form(page: Page, prefect: Installation, pages: str = "/v2") -> None:
    page.goto(f"{prefect.page}{pages}/deployments/deployment/{prefect.deployment()['id']}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").first.click()
    expect(page.get_by_role("button", name="Submit")).to_be_visible()
    # The fields come in after the button.
    expect(page.get_by_text("Source", exact=True)).to_be_visible()
    expect(page.get_by_text(TITLES[-1]).first).to_be_visible()


def fill(page: Page, parameters: dict[str, str]) -> None:
    for title, name in (("Source", "source"), ("Destination", "destination"), ("Text column", "text_column")):
        page.get_by_label(title, exact=True).fill(parameters[name])


def submit(page: Page, prefect: Installation) -> str:
    """Press the button, again when the server was too busy; returns the run's id, its page is open."""
    for _ in range(TRIES):
        with page.expect_response(is_last_word) as answer:
            page.get_by_role("button", name="Submit").click()
        if answer.value.ok:
            run = str(answer.value.json()["id"])
            page.goto(f"{prefect.page}/v2/runs/flow-run/{run}")
            return run
    pytest.fail("the server took no run")


def is_last_word(response: Response) -> bool:
    """The form lets the server check its values, then sends them; an error is shown, and the form stays."""
    return response.url.endswith("/create_flow_run") or ("/validate" in response.url and not response.ok)


def badge(page: Page, state: str) -> None:
    """Wait for the state beside the run's name."""
    expect(page.get_by_text(state, exact=True).first).to_be_visible()


@pytest.mark.parametrize("pages", ["", "/v2"], ids=["classic", "new"])
def test_the_form_asks_in_order_with_titles_help_defaults_and_no_json(
    page: Page, prefect: Installation, pages: str
) -> None:
    open_form(page, prefect, pages)
    lines = page.locator("body").inner_text().splitlines()
    shown = lines[lines.index("Parameters") :]
    asked = [line.removesuffix(" (Optional)") for line in shown]
    places = [asked.index(title) for title in TITLES]
    assert places == sorted(places)
    assert all(len(shown[place + 1] or shown[place + 2]) > len("What is it.") for place in places)
    values = page.locator("textarea, input").evaluate_all("fields => fields.map(field => field.value)")
    assert {"samples/source", "samples/destination", "body", "64", "256", "summary", "0.01"} <= set(values)
    assert page.locator(".cm-editor").count() == 0
    assert not [line for line in shown if "api key" in line.lower() or "secret" in line.lower()]


def test_a_run_is_started_from_the_form_watched_and_its_report_read(
    page: Page, prefect: Installation
) -> None:
    prefect.endpoint.configure(latency_ms=1000)
    open_form(page, prefect)
    fill(page, prefect.write_source("watched", 3, 100))
    page.get_by_label("Requests in flight").fill("10")
    run = submit(page, prefect)
    badge(page, "Running")
    progress = {"flow_run_id": {"any_": [run]}, "type": {"any_": ["progress"]}}
    prefect.until(lambda: prefect.api("artifacts/filter", {"artifacts": progress}) != [])
    page.reload()
    page.get_by_role("tab", name="Artifacts").click()
    expect(page.get_by_text("of 300 rows").first).to_be_visible()
    badge(page, "Completed")
    page.get_by_role("tab", name="Task Runs").click()
    expect(page.get_by_text("summarize part-1.parquet").first).to_be_visible()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name="markdown").first.click()
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    expect(page.get_by_text("270 ok").first).to_be_visible()
    assert prefect.endpoint.stats().requests == 270


def test_a_bound_that_is_exceeded_is_told_in_the_form(page: Page, prefect: Installation) -> None:
    open_form(page, prefect)
    before = len(prefect.runs("development"))
    field = page.get_by_label("Requests in flight")
    field.fill("0")
    page.get_by_role("button", name="Submit").click()
    assert "greater than or equal to 1" in field.evaluate("field => field.validationMessage")
    assert len(prefect.runs("development")) == before


def test_an_unknown_column_ends_the_run_with_a_sentence_and_no_request(
    page: Page, prefect: Installation
) -> None:
    open_form(page, prefect)
    fill(page, {**prefect.write_source("unknown", 1), "text_column": "bodi"})
    submit(page, prefect)
    badge(page, "Failed")
    page.get_by_role("tab", name="Details").click()
    sentence = "column 'bodi' is missing (it has id, body, price, tags)"
    expect(page.get_by_text(sentence).first).to_be_visible()
    assert prefect.endpoint.stats().requests == 0


def test_a_run_cancelled_on_its_page_stops_asking_and_keeps_what_was_paid(
    page: Page, prefect: Installation
) -> None:
    parameters = prefect.write_source("cancelled", 2, 100)
    prefect.endpoint.configure(latency_ms=2000)
    open_form(page, prefect)
    fill(page, parameters)
    page.get_by_label("Requests in flight").fill("10")
    run = submit(page, prefect)
    badge(page, "Running")
    prefect.until(lambda: prefect.endpoint.stats().answered >= 10)
    page.get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name="Cancel").click()
    page.get_by_role("button", name="Cancel Flow Run").click()
    badge(page, "Cancelled")
    assert prefect.ended(run)["type"] == "CANCELLED"
    stopped = prefect.endpoint.stats()
    assert stopped.in_flight == 0
    assert stopped.answered + stopped.abandoned == stopped.requests < 180
    assert not list(Path(parameters["destination"]).glob("*.parquet"))
    prefect.endpoint.configure(latency_ms=0)
    assert prefect.ended(prefect.start(**parameters))["type"] == "COMPLETED"
    stats = prefect.endpoint.stats()
    assert stats.requests == stopped.requests + 180 - stopped.answered
    assert stats.row_paid_max == 1

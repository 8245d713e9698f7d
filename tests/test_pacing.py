import asyncio
import logging
import math
from collections.abc import Sequence

import pytest

from tasks.core.errors import RequestError
from tasks.core.llm.chat_model import Answer
from tasks.core.model import Outcome, Status
from tasks.core.prompt import RenderedRow
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.ratelimit.quota_rate import QuotaRate
from tasks.core.ratelimit.ratelimit_headers import parse
from tests.simulated_deployment import Deployment, Headers, work_until
from tests.textmodels import TextSummarizer
from tests.virtualtime import run_virtually

# 20 requests/s, 40,000 tokens/min in requests of 750, and Azure's smallest and largest usual quotas.
QUOTAS = [(1200, None, 120), (None, 40_000, 400), (10, None, 1800), (10_000, None, 60)]


def limiter_of(deployment: Deployment, *, given: bool = False, max_concurrent: int = 512) -> Limiter:
    return Limiter(
        max_concurrent,
        requests_per_minute=deployment.requests_per_minute if given else None,
        tokens_per_minute=deployment.tokens_per_minute if given else None,
    )


def worked(
    requests_per_minute: float | None,
    tokens_per_minute: float | None,
    seconds: float,
    *,
    headers: Headers = "all",
    window_s: float = 10.0,
    given: bool = False,
) -> tuple[float, Deployment]:
    """Send rows for some seconds; returns the used part of the quota, and the deployment."""

    async def run() -> tuple[float, Deployment]:
        deployment = Deployment(requests_per_minute, tokens_per_minute, window_s, headers=headers)
        await work_until(seconds, limiter_of(deployment, given=given), deployment)
        per_s = (requests_per_minute or (tokens_per_minute or 0) / deployment.tokens) / 60
        return deployment.served(0, seconds) / (per_s * seconds), deployment

    return run_virtually(run())


@pytest.mark.parametrize(("requests", "tokens", "seconds"), QUOTAS)
@pytest.mark.parametrize("window_s", [1.0, 10.0])
@pytest.mark.parametrize("headers", ["all", "none"])
def test_a_given_quota_is_used_without_one_refusal(
    requests: float | None, tokens: float | None, seconds: float, window_s: float, headers: Headers
) -> None:
    used, deployment = worked(requests, tokens, seconds, headers=headers, window_s=window_s, given=True)
    assert deployment.refused_s == []
    assert used >= 0.97


@pytest.mark.parametrize(("requests", "tokens", "seconds"), QUOTAS)
def test_a_quota_that_only_headers_report_is_used_with_few_refusals(
    requests: float | None, tokens: float | None, seconds: float
) -> None:
    used, deployment = worked(requests, tokens, seconds)
    assert deployment.refused_share <= 0.02
    assert used >= 0.97


def test_before_the_first_reply_no_more_is_sent_than_a_small_quota_admits() -> None:
    _, deployment = worked(None, 40_000, 90)
    assert deployment.refused_s == []


@pytest.mark.parametrize(("requests", "tokens", "seconds"), QUOTAS)
def test_without_headers_an_unknown_quota_is_learned_from_refusals(
    requests: float | None, tokens: float | None, seconds: float
) -> None:
    used, deployment = worked(requests, tokens, seconds, headers="none")
    assert deployment.refused_share <= 0.02
    assert used >= 0.97


@pytest.mark.parametrize("headers", ["all", "none"])
def test_a_quota_whose_bucket_holds_one_second_is_used_as_well(headers: Headers) -> None:
    used, deployment = worked(1200, None, 120, headers=headers, window_s=1.0)
    assert deployment.refused_share <= 0.02
    assert used >= 0.97


def test_a_quota_that_drops_to_a_tenth_and_comes_back_is_followed_within_ten_seconds() -> None:
    async def run() -> None:
        deployment = Deployment(1200)
        limiter = limiter_of(deployment)

        async def change() -> None:
            await asyncio.sleep(60)
            deployment.resize(120)
            await asyncio.sleep(60)
            deployment.resize(1200)

        await asyncio.gather(work_until(180, limiter, deployment), change())
        # Only what the bucket held may be used as well: twenty requests of the new quota.
        assert deployment.served(60, 70) <= 2 * 10 + 20
        assert deployment.served(70, 120) == pytest.approx(2 * 50, rel=0.1)
        assert deployment.served(130, 180) == pytest.approx(20 * 50, rel=0.05)
        assert deployment.refused_share <= 0.02

    run_virtually(run())


def test_without_headers_a_drop_is_followed_within_ten_seconds_and_the_return_later() -> None:
    async def run() -> None:
        deployment = Deployment(1200, headers="none")
        limiter = limiter_of(deployment)

        async def change() -> None:
            await asyncio.sleep(60)
            deployment.resize(120)
            await asyncio.sleep(60)
            deployment.resize(1200)

        await asyncio.gather(work_until(600, limiter, deployment), change())
        assert deployment.served(70, 120) == pytest.approx(2 * 50, rel=0.2)
        assert deployment.served(500, 600) == pytest.approx(20 * 100, rel=0.05)

    run_virtually(run())


@pytest.mark.parametrize("headers", ["all", "none"])
def test_a_cooldown_ends_without_a_burst(headers: Headers) -> None:
    async def run() -> None:
        deployment = Deployment(1200, headers=headers)
        limiter, loop = limiter_of(deployment), asyncio.get_running_loop()

        async def refuse() -> None:
            await asyncio.sleep(60)
            limiter.rate_limited(5.0)

        await asyncio.gather(work_until(90, limiter, deployment), refuse())
        assert deployment.served(60.1, 65) == 0
        assert 0 < deployment.served(65, 66.5) <= 2 * 30
        assert loop.time() > 90

    run_virtually(run())


@pytest.mark.parametrize("headers", ["all", "none"])
@pytest.mark.parametrize(
    ("latency_s", "max_concurrent", "full_s"), [(0.05, 64, 1.0), (0.5, 256, 1.0), (2.0, 1000, 3.0)]
)
def test_without_a_quota_the_window_is_full_a_second_after_the_first_reply_and_stays_full(
    latency_s: float, max_concurrent: int, full_s: float, headers: Headers
) -> None:
    async def run() -> None:
        deployment = Deployment(latency_s=latency_s, sigma=0.0, headers=headers)
        limiter, loop = limiter_of(deployment, max_concurrent=max_concurrent), asyncio.get_running_loop()
        work = asyncio.ensure_future(work_until(10, limiter, deployment))
        await asyncio.sleep(full_s)
        while loop.time() < 9:
            assert limiter.in_flight == max_concurrent
            await asyncio.sleep(0.37)
        await work

    run_virtually(run())


@pytest.mark.parametrize("window_s", [1.0, 10.0])
def test_processes_that_share_a_deployment_converge_to_equal_shares_without_communication(
    window_s: float,
) -> None:
    class Process:
        """Records which requests of the deployment are its own."""

        def __init__(self, deployment: Deployment) -> None:
            self._deployment = deployment
            self.served_s: list[float] = []

        async def complete(self, row: RenderedRow) -> Answer:
            answer = await self._deployment.complete(row)
            self.served_s.append(asyncio.get_running_loop().time())
            return answer

    async def run() -> tuple[Deployment, Sequence[Process]]:
        deployment = Deployment(1200, window_s=window_s)
        processes = [Process(deployment) for _ in range(3)]

        async def work(process: Process, begins_s: float) -> None:
            await asyncio.sleep(begins_s)
            await work_until(400, limiter_of(deployment), process)

        # The first has the quota for itself before the others come.
        await asyncio.gather(*(work(process, 40.0 * i) for i, process in enumerate(processes)))
        return deployment, processes

    deployment, processes = run_virtually(run())
    fair = 20 * 200 / 3
    for process in processes:
        assert sum(200 <= at < 400 for at in process.served_s) == pytest.approx(fair, rel=0.25)
    assert deployment.served(100, 400) >= 0.97 * 20 * 300
    assert deployment.refused_share <= 0.02


def test_random_500s_cost_one_more_request_each_and_no_row() -> None:
    class Flaky:
        requests = 0

        async def summarize(self, text: str) -> Outcome:
            self.requests += 1
            fails = self.requests % 20 == 0
            await asyncio.sleep(0.5)
            if fails:
                message = "HTTP 500"
                raise RequestError(message)
            return Outcome(Status.OK, text)

    async def run() -> None:
        model = Flaky()
        outcomes = await TextSummarizer(model, Limiter(64)).summarize(f"{n}" for n in range(5000))
        assert {outcome.status for outcome in outcomes} == {Status.OK}
        assert model.requests <= 1.06 * 5000

    run_virtually(run())


def test_after_waits_that_are_refused_again_requests_follow_the_requested_waits() -> None:
    async def run() -> None:
        limiter, loop = Limiter(1), asyncio.get_running_loop()
        for _ in range(20):
            slot = limiter.slot()
            async with slot:
                pass
            limiter.rate_limited(1.0, slot)
        assert loop.time() < 20 * 2.5

    run_virtually(run())


def test_the_log_reports_once_that_the_quota_limits_the_request_rate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="tasks.core")
    worked(1200, None, 120)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("The deployment's quota limits the request rate to 12")
    assert line.endswith("requests/min")


def test_the_state_names_request_rate_and_wait() -> None:
    async def run() -> None:
        limiter = Limiter(8, requests_per_minute=60)
        async with limiter.slot():
            assert limiter.state == "1 of 8 in flight, limited to 59 requests/min"
            limiter.rate_limited(10.0)
            assert limiter.state.startswith("1 of 8 in flight, limited to 59 requests/min, waits 10 s")

    run_virtually(run())


def test_headers_without_a_number_are_ignored() -> None:
    headers = [
        (b"X-RateLimit-Limit-Requests", b"600"),
        (b"x-ratelimit-remaining-requests", b"0"),
        (b"x-ratelimit-limit-tokens", b"-1"),
        (b"x-ratelimit-remaining-tokens", b"many"),
    ]
    parsed = parse(headers)
    assert (parsed.requests_per_s, parsed.requests_left) == (10.0, 0.0)
    assert (parsed.tokens_per_s, parsed.tokens_left) == (None, None)
    assert parse([(b"x-ratelimit-limit-requests", b"0")]).requests_per_s is None


def test_a_reported_rate_that_is_too_low_is_exceeded_while_nearly_all_of_the_quota_is_left() -> None:
    # A limit per ten seconds that is parsed as one per minute.
    pace, now_s, sent = QuotaRate(None, slow_start=True, now_s=0.0), 0.0, 0
    pace.observe(10.0, 600.0, now_s)
    while now_s < 120:
        now_s = max(now_s, pace.next_s)
        pace.start(now_s, 1.0)
        pace.observe(10.0, 600.0, now_s)
        sent += 1
    assert sent / 120 > 20
    assert not math.isinf(pace.rate)


@pytest.mark.parametrize("left", [0.0, 3.0])
def test_headers_that_always_report_little_left_do_not_slow_a_run_down_to_nothing(left: float) -> None:
    pace, now_s = QuotaRate(None, slow_start=True, now_s=0.0), 0.0
    pace.observe(20.0, 200.0 if left else left, now_s)
    while now_s < 600:
        now_s = max(now_s, pace.next_s)
        pace.start(now_s, 1.0)
        pace.observe(20.0, left, now_s)
    assert pace.rate >= 1.0

import asyncio

import pytest

from tasks.core.errors import BreakerError, DeploymentError, ParkedError
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.ratelimit.window import INITIAL_SIZE
from tests.virtualtime import run_virtually


async def starts_s(limiter: Limiter, rows: int, latency_s: float = 1.0) -> list[float]:
    """When each row got its slot."""
    loop, started = asyncio.get_running_loop(), []

    async def row() -> None:
        async with limiter.slot():
            started.append(loop.time())
            await asyncio.sleep(latency_s)

    await asyncio.gather(*(row() for _ in range(rows)))
    return started


def test_never_more_than_the_window_holds_a_slot() -> None:
    async def run() -> None:
        limiter = Limiter(3, requests_per_minute=1e9)
        assert await starts_s(limiter, 7) == pytest.approx([0, 0, 0, 1, 1, 1, 2], abs=1e-6)
        assert limiter.in_flight == 0

    run_virtually(run())


def test_after_a_429_every_row_waits_as_long_as_requested_and_holds_no_slot() -> None:
    async def run() -> None:
        limiter = Limiter(2)
        limiter.rate_limited(10.0)
        rows = asyncio.ensure_future(starts_s(limiter, 4))
        await asyncio.sleep(5)
        assert limiter.in_flight == 0
        assert min(await rows) >= 10.0

    run_virtually(run())


def test_a_cooldown_also_holds_rows_that_are_in_the_queue_already() -> None:
    async def run() -> None:
        limiter = Limiter(1)
        rows = asyncio.ensure_future(starts_s(limiter, 3))
        await asyncio.sleep(0.5)
        limiter.rate_limited(20.0)
        assert (await rows)[1] >= 20.5

    run_virtually(run())


def test_refusals_in_flight_together_count_once_and_waits_that_are_not_requested_double() -> None:
    async def run() -> list[float]:
        limiter, loop, waits = Limiter(8, max_wait_s=1e6), asyncio.get_running_loop(), []
        for _ in range(8):
            began = loop.time()
            for _ in range(8):
                limiter.rate_limited(None)
            async with limiter.slot():
                waits.append(loop.time() - began)
        return waits

    waits = run_virtually(run())
    for expected, waited in zip([1, 2, 4, 8, 16, 32, 60, 60], waits, strict=True):
        assert expected <= waited <= expected * 1.1 + 0.01


def test_retry_after_zero_does_not_spin() -> None:
    async def run() -> int:
        limiter, loop, tries = Limiter(1, max_wait_s=30.0), asyncio.get_running_loop(), 0
        while loop.time() < 10:
            async with limiter.slot():
                tries += 1
            limiter.rate_limited(0.0)
        return tries

    assert run_virtually(run()) <= 101


def test_a_reply_ends_the_series_of_refusals() -> None:
    async def run() -> None:
        limiter, loop = Limiter(1, max_wait_s=50.0), asyncio.get_running_loop()
        for _ in range(20):
            limiter.rate_limited(20.0)
            async with limiter.slot():
                limiter.answered()
        assert loop.time() > 400

    run_virtually(run())


def test_refusals_without_any_answer_stop_the_run_after_the_longest_wait() -> None:
    async def run() -> None:
        limiter, loop = Limiter(1, max_wait_s=50.0), asyncio.get_running_loop()

        async def retry() -> None:
            while True:
                limiter.rate_limited(20.0)
                async with limiter.slot():
                    pass

        with pytest.raises(ParkedError, match="refused everything for"):
            await retry()
        assert 50 < loop.time() < 80

    run_virtually(run())


def test_a_requested_wait_longer_than_allowed_stops_at_once_and_the_error_holds_the_seconds() -> None:
    async def run() -> None:
        limiter = Limiter(1, max_wait_s=300.0)
        with pytest.raises(ParkedError, match="asks to wait 3600 s") as caught:
            limiter.rate_limited(3600.0)
        assert caught.value.wait_s == 3600.0
        with pytest.raises(ParkedError):
            async with limiter.slot():
                pass

    run_virtually(run())


def test_a_stop_ends_pauses_and_queued_requests_with_the_first_error() -> None:
    async def run() -> None:
        limiter, loop = Limiter(1), asyncio.get_running_loop()
        pause = asyncio.ensure_future(limiter.pause(1000))
        limiter.rate_limited(200.0)
        row = asyncio.ensure_future(starts_s(limiter, 1))
        await asyncio.sleep(1)
        limiter.stop(DeploymentError("first"))
        limiter.stop(DeploymentError("second"))
        for waiting in (pause, row):
            with pytest.raises(DeploymentError, match="first"):
                await waiting
        assert loop.time() < 2

    run_virtually(run())


def test_the_state_names_requests_in_flight_and_a_stop() -> None:
    async def run() -> None:
        limiter = Limiter(5)
        async with limiter.slot():
            assert repr(limiter) == "Limiter(1 of 5 in flight)"
        limiter.stop(DeploymentError("x"))
        assert repr(limiter) == "Limiter(0 in flight, stopped)"

    run_virtually(run())


def test_an_outage_of_less_than_ten_seconds_at_the_start_does_not_stop_the_run() -> None:
    async def run() -> None:
        limiter = Limiter(100)
        for _ in range(90):
            limiter.attempt_failed("the connection failed")
            await asyncio.sleep(0.1)
        limiter.answered()
        await asyncio.sleep(10)
        limiter.attempt_failed("the connection failed")

    run_virtually(run())


def test_a_deployment_that_has_not_answered_fifty_requests_in_ten_seconds_stops_the_run() -> None:
    async def run() -> None:
        limiter = Limiter(100)
        limiter.attempt_failed("the connection failed")
        await asyncio.sleep(10)
        for _ in range(48):
            limiter.attempt_failed("the connection failed")
        with pytest.raises(BreakerError, match=r"50 requests were sent and none was answered.*same command"):
            limiter.attempt_failed("the connection failed")

    run_virtually(run())


def test_after_an_answer_only_many_failed_rows_in_a_row_stop_the_run() -> None:
    async def run() -> None:
        limiter = Limiter(10)
        for _ in range(10):
            limiter.answered()
            for _ in range(49):
                limiter.attempt_failed("HTTP 500")
                limiter.row_failed("HTTP 500")
        with pytest.raises(BreakerError, match="the last 50 rows failed"):
            limiter.row_failed("HTTP 500")
        with pytest.raises(BreakerError):
            await limiter.pause(1)

    run_virtually(run())


def test_many_rows_in_a_row_rejected_with_an_unknown_error_code_stop_the_run() -> None:
    async def run() -> None:
        limiter = Limiter(64)
        for _ in range(63):
            limiter.rejected("HTTP 400, odd")
        limiter.answered()
        for _ in range(63):
            limiter.rejected("HTTP 400, odd")
        with pytest.raises(BreakerError, match=r"the last 64 rows failed.*HTTP 400, odd"):
            limiter.rejected("HTTP 400, odd")

    run_virtually(run())


def test_the_window_opens_after_two_seconds_without_a_first_reply() -> None:
    async def run() -> None:
        assert (await starts_s(Limiter(20), 20, latency_s=30.0))[INITIAL_SIZE] == pytest.approx(2.0, abs=0.01)

    run_virtually(run())


def test_with_a_given_quota_no_request_waits_for_the_first_reply() -> None:
    async def run() -> None:
        assert (await starts_s(Limiter(20, requests_per_minute=1e9), 20, latency_s=30.0))[-1] < 0.1

    run_virtually(run())

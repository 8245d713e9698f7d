import asyncio
from contextlib import ExitStack, suppress

import pytest

from tasks.core.errors import BudgetError, DeploymentError, RequestError
from tasks.core.llm.budget import Budget
from tasks.core.llm.metering import Meter
from tasks.core.model import Outcome, Status
from tasks.core.pricing import Price, price_of
from tests.textmodels import OfTexts, row_of


def test_no_request_is_sent_above_the_limit() -> None:
    budget = Budget(max_requests=2)
    for _ in range(2):
        with budget.reserve(6):
            pass
    with (
        pytest.raises(BudgetError, match=r"2 requests.*run the same command again"),
        budget.reserve(6),
    ):
        pytest.fail("no third request")


def test_dollars_count_requests_in_flight_at_their_highest_cost_and_answered_ones_at_their_real_cost() -> (
    None
):
    budget = Budget(max_cost_usd=3.0, price=Price(0.0, 1.0), max_output_tokens=1_000_000)
    with ExitStack() as in_flight:
        for _ in range(3):
            in_flight.enter_context(budget.reserve(6))
        with pytest.raises(BudgetError), budget.reserve(6):
            pytest.fail("three in flight may cost three dollars")
    budget.record_usage(10, 500_000)
    with (
        budget.reserve(6),
        budget.reserve(6),
        pytest.raises(BudgetError, match=r"0\.5000 of them"),
    ):
        in_flight.enter_context(budget.reserve(6))


def test_without_limits_no_request_is_rejected() -> None:
    budget = Budget()
    for _ in range(1000):
        with budget.reserve(6):
            budget.record_usage(10, 10)


def test_prices_are_listed_can_be_overridden_and_may_be_unknown() -> None:
    listed = price_of("gpt-4o-mini")
    assert listed is not None
    assert 0 < listed.input_usd < listed.output_usd
    assert price_of("gpt-4o-mini", output_usd=9.0) == Price(listed.input_usd, 9.0)
    assert price_of("unknown-model") is None
    assert price_of("unknown-model", input_usd=1.0) is None
    assert price_of("unknown-model", 1.0, 2.0) == Price(1.0, 2.0)
    assert Price(2.0, 4.0).cost_usd(500_000, 250_000) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "end",
    [
        RequestError("no reply", possibly_paid=True),
        Outcome(Status.FILTERED),
        Outcome(Status.OK, "A summary.", model="m"),
    ],
    ids=["lost", "filtered", "no usage"],
)
def test_a_request_that_may_be_billed_and_has_no_usage_counts_at_its_highest_cost(
    end: Outcome | Exception,
) -> None:
    class Ending:
        async def summarize(self, text: str) -> Outcome:  # noqa: ARG002 - a ChatModel's
            if isinstance(end, Exception):
                raise end
            return end

    async def run() -> None:
        budget = Budget(max_cost_usd=3.0, price=Price(0.0, 1.0), max_output_tokens=1_000_000)
        metered = Meter(budget).wrap(OfTexts(Ending()))
        for _ in range(3):
            with suppress(RequestError):
                await metered.complete(row_of("a text"))
        with pytest.raises(BudgetError, match=r"3 USD, 3\.0000 of them spent"):
            await metered.complete(row_of("a text"))

    asyncio.run(run())


def test_refused_and_rejected_requests_cost_nothing() -> None:
    class Refusing:
        async def summarize(self, text: str) -> Outcome:
            if text == "too long":
                return Outcome(Status.TOO_LONG)
            message = "HTTP 500"
            raise RequestError(message)

    async def run() -> None:
        budget = Budget(max_cost_usd=3.0, price=Price(0.0, 1.0), max_output_tokens=1_000_000)
        metered = Meter(budget).wrap(OfTexts(Refusing()))
        for text in ["too long", "any"] * 10:
            with suppress(RequestError):
                await metered.complete(row_of(text))

    asyncio.run(run())


def test_attempts_that_were_not_sent_use_up_no_request_budget() -> None:
    unsent: list[Outcome | Exception] = [
        RequestError("no connection", sent=False),
        DeploymentError("no token"),
    ]
    ends = iter([*unsent * 10, Outcome(Status.OK, "s"), Outcome(Status.OK, "s")])

    class Ending:
        async def summarize(self, text: str) -> Outcome:  # noqa: ARG002 - a ChatModel's
            end = next(ends)
            if isinstance(end, Exception):
                raise end
            return end

    async def run() -> None:
        meter = Meter(Budget(max_requests=2))
        metered = meter.wrap(OfTexts(Ending()))
        for _ in range(22):
            with suppress(RequestError, DeploymentError):
                await metered.complete(row_of("a text"))
        assert (meter.bill.sent, meter.bill.unsent) == (2, 20)
        with pytest.raises(BudgetError):
            await metered.complete(row_of("a text"))

    asyncio.run(run())

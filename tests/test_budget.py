from contextlib import ExitStack

import pytest

from tasks.core.calls.budget import Budget
from tasks.core.errors import BudgetError
from tasks.core.prices import Price, price_of


def test_requests_end_at_their_limit() -> None:
    budget = Budget(max_requests=2)
    for _ in range(2):
        with budget.request("a text"):
            pass
    with (
        pytest.raises(BudgetError, match=r"2 requests.*run the same command again"),
        budget.request("a text"),
    ):
        pytest.fail("no third request")


def test_dollars_count_what_is_in_flight_at_its_most_and_what_is_answered_as_it_was() -> None:
    budget = Budget(max_cost_usd=3.0, price=Price(0.0, 1.0), max_output_tokens=1_000_000)
    with ExitStack() as in_flight:
        for _ in range(3):
            in_flight.enter_context(budget.request("a text"))
        with pytest.raises(BudgetError), budget.request("a text"):
            pytest.fail("three in flight may cost three dollars")
    budget.spent(10, 500_000)
    with (
        budget.request("a text"),
        budget.request("a text"),
        pytest.raises(BudgetError, match=r"0\.5000 of them"),
    ):
        in_flight.enter_context(budget.request("a text"))


def test_without_limits_nothing_ends() -> None:
    budget = Budget()
    for _ in range(1000):
        with budget.request("a text"):
            budget.spent(10, 10)


def test_prices_are_listed_can_be_overridden_and_may_be_unknown() -> None:
    listed = price_of("gpt-4o-mini")
    assert listed is not None
    assert 0 < listed.input_usd < listed.output_usd
    assert price_of("gpt-4o-mini", output_usd=9.0) == Price(listed.input_usd, 9.0)
    assert price_of("nobody-knows") is None
    assert price_of("nobody-knows", input_usd=1.0) is None
    assert price_of("nobody-knows", 1.0, 2.0) == Price(1.0, 2.0)
    assert Price(2.0, 4.0).cost_usd(500_000, 250_000) == pytest.approx(2.0)

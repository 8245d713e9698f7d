"""The local endpoint's quotas."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.local.endpoint import serve
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.quota import Bucket, Quota
from tests.endpoint_requests import PROSE, azure_client, complete_once


def test_every_reply_has_the_rate_limit_headers() -> None:
    config = EndpointConfig(requests_per_minute=600, tokens_per_minute=60_000, bucket_window_s=60)
    with serve(config) as endpoint:

        async def run() -> Any:
            async with azure_client(endpoint) as client:
                return await client.chat.completions.with_raw_response.create(
                    model="gpt", messages=[{"role": "user", "content": "x" * 400}], max_tokens=900
                )

        headers = asyncio.run(run()).headers
    assert headers["x-ratelimit-limit-requests"] == "600"
    assert headers["x-ratelimit-remaining-requests"] == "599"
    assert headers["x-ratelimit-limit-tokens"] == "60000"
    assert headers["x-ratelimit-remaining-tokens"] == "59000"
    assert headers["x-request-id"] == headers["apim-request-id"]


def test_a_used_up_quota_is_a_429_until_it_is_raised() -> None:
    with serve(EndpointConfig(requests_per_minute=6, bucket_window_s=20, retry_after_min_ms=10)) as endpoint:
        complete_once(endpoint, PROSE)
        complete_once(endpoint, PROSE)
        with pytest.raises(openai.RateLimitError) as raised:
            complete_once(endpoint, PROSE)
        assert 8_000 < int(raised.value.response.headers["retry-after-ms"]) <= 10_000
        endpoint.configure(requests_per_minute=6e6)
        complete_once(endpoint, PROSE)
        assert endpoint.stats().requests_by_status == {200: 3, 429: 1}
        assert endpoint.paid_for(PROSE) == 3


class FakeClock:
    """A clock that tests advance."""

    def __init__(self) -> None:
        """Start at zero."""
        self.now_s = 0.0

    def __call__(self) -> float:
        """The current time."""
        return self.now_s


def test_a_bucket_refills_evenly_up_to_one_window() -> None:
    clock = FakeClock()
    bucket = Bucket(per_minute=60, window_s=10, clock=clock)
    bucket.take(10)
    assert bucket.wait_s(1) == pytest.approx(1)
    clock.now_s = 4
    assert bucket.wait_s(4) == 0
    assert bucket.remaining == 4
    clock.now_s = 1000
    assert bucket.wait_s(10) == 0
    assert bucket.remaining == 10


def test_a_request_larger_than_the_bucket_is_admitted_when_it_is_full_and_leaves_a_negative_level() -> None:
    clock = FakeClock()
    bucket = Bucket(per_minute=60, window_s=10, clock=clock)
    assert bucket.wait_s(25) == 0
    bucket.take(25)
    assert bucket.remaining == 0
    assert bucket.wait_s(1) == pytest.approx(16)


def test_a_resized_bucket_keeps_its_level_up_to_the_new_capacity() -> None:
    bucket = Bucket(per_minute=60, window_s=10, clock=FakeClock())
    bucket.resize(per_minute=12, window_s=10)
    assert (bucket.limit, bucket.remaining) == (12, 2)


def test_a_request_rejected_by_one_bucket_is_not_charged_to_the_other() -> None:
    quota = Quota(requests_per_minute=60, tokens_per_minute=60, window_s=60)
    assert quota.admit(60) == 0
    assert quota.admit(60) > 0
    assert quota.headers()["x-ratelimit-remaining-requests"] == "59"


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 30)), max_size=60))
def test_the_admitted_amount_never_exceeds_the_rate(arrivals: list[tuple[float, int]]) -> None:
    clock = FakeClock()
    bucket = Bucket(per_minute=60, window_s=30, clock=clock)
    passed = 0
    for pause_s, amount in arrivals:
        clock.now_s += pause_s
        if bucket.wait_s(amount) == 0:
            bucket.take(amount)
            passed += amount
    assert passed <= clock.now_s + 30 + 1e-6

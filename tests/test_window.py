import pytest

from tasks.core.ratelimit.window import INITIAL_SIZE, Window


def test_a_window_never_exceeds_its_maximum() -> None:
    window = Window(8)
    for _ in range(100):
        window.answered()
    assert window.size == 8


@pytest.mark.parametrize("max_size", [1, INITIAL_SIZE, 64])
def test_a_window_that_starts_small_has_its_full_size_after_the_first_reply(max_size: int) -> None:
    window = Window(max_size, starts_small=True)
    assert window.size == min(max_size, INITIAL_SIZE)
    window.answered()
    assert window.size == max_size


def test_timeouts_do_not_halve_a_window_that_still_has_its_initial_size() -> None:
    window = Window(64, starts_small=True)
    window.timed_out(sent_s=1.0, now_s=2.0)
    assert window.size == INITIAL_SIZE
    window.open()
    assert window.size == 64
    window.timed_out(sent_s=3.0, now_s=4.0)
    window.open()
    assert window.size == 32


def test_timeouts_halve_the_window_once_for_all_requests_sent_before() -> None:
    window = Window(64)
    for sent_s in (1.0, 2.0, 3.0):
        window.timed_out(sent_s, now_s=10.0)
    assert window.size == 32
    window.timed_out(sent_s=9.9, now_s=12.0)
    assert window.size == 32
    window.timed_out(sent_s=10.0, now_s=12.0)
    assert window.size == 16


def test_timeouts_do_not_shrink_a_window_below_one_request() -> None:
    window = Window(5)
    for second in range(20):
        window.timed_out(sent_s=float(second), now_s=float(second))
    assert window.size == 1


def test_replies_grow_a_window_by_an_eighth_per_round_up_to_its_maximum() -> None:
    window = Window(64)
    window.timed_out(sent_s=1.0, now_s=2.0)
    for _ in range(32):
        window.answered()
    assert window.size == 36
    for _ in range(1000):
        window.answered()
    assert window.size == 64

import pytest

from tasks.core.ratelimit.window import INITIAL_SIZE, Window


def test_a_window_never_gets_wider_than_allowed() -> None:
    window = Window(8)
    for _ in range(100):
        window.answered()
    assert window.size == 8


@pytest.mark.parametrize("ceiling", [1, INITIAL_SIZE, 64])
def test_a_window_that_starts_small_is_open_from_the_first_reply_on(ceiling: int) -> None:
    window = Window(ceiling, starts_small=True)
    assert window.size == min(ceiling, INITIAL_SIZE)
    window.answered()
    assert window.size == ceiling


def test_timeouts_do_not_narrow_a_window_that_has_not_been_opened() -> None:
    window = Window(64, starts_small=True)
    window.timed_out(sent_s=1.0, now_s=2.0)
    assert window.size == INITIAL_SIZE
    window.open()
    assert window.size == 64
    window.timed_out(sent_s=3.0, now_s=4.0)
    window.open()
    assert window.size == 32


def test_timeouts_halve_the_window_once_for_all_that_were_sent_before() -> None:
    window = Window(64)
    for sent_s in (1.0, 2.0, 3.0):
        window.timed_out(sent_s, now_s=10.0)
    assert window.size == 32
    window.timed_out(sent_s=9.9, now_s=12.0)
    assert window.size == 32
    window.timed_out(sent_s=10.0, now_s=12.0)
    assert window.size == 16


def test_a_window_lets_one_request_pass_however_many_time_out() -> None:
    window = Window(5)
    for second in range(20):
        window.timed_out(sent_s=float(second), now_s=float(second))
    assert window.size == 1


def test_replies_widen_a_window_by_an_eighth_a_round_up_to_the_ceiling() -> None:
    window = Window(64)
    window.timed_out(sent_s=1.0, now_s=2.0)
    for _ in range(32):
        window.answered()
    assert window.size == 36
    for _ in range(1000):
        window.answered()
    assert window.size == 64

"""How fast requests may start: the pace of one quota, of requests or of tokens.

What is known of a quota comes from three sources, and the slowest of them counts:

- given: by the user. Paced evenly from the first request.
- reported: in the replies' headers. Processes that read the same headers add the same while some is left, and
  give back in proportion when it is scarce; so processes that share a deployment come to equal shares.
- learned: from refusals. The rate that was served is kept and probed a little upwards; when much more than it
  allowed has passed without a refusal, the quota has grown, and the rate doubles every second.

While nothing is known the pace opens slowly, for a split second. Units are requests or tokens, as the owner
counts them; times are the event loop's.
"""

import math

from tasks.core.ratelimit.rate_estimates import Headroom, LearnedRate

_MARGIN = 0.99  # of a given quota: a request early by a network's whim must not be one too many
_CATCH_UP_S = 0.1  # a timer that was late may be made up for ...
_EVEN_S = 0.5  # ... but not when the quota lets single requests pass
_FIRST_PER_S, _FIRST_DOUBLING_S, _FIRST_BACK_OFF = 20.0, 0.1, 1 / 8
_FASTEST_OPENING = 1.5  # from one request to the next
_DOUBLING_S = 1.0
_BACK_OFF = 0.99
_PROBE_PER_S, _PROBE_PER_REQUEST, _PROBE_PER_DOUBT = 0.01, 1.5e-4, 0.08
_CALM_S, _FEW_REFUSED = 4.0, 0.005
_LONG_CALM_S, _LONG_CALM_REQUESTS = 15.0, 150.0
_RISEN, _RISEN_REQUESTS = 1.05, 3.0
_OTHER = 1.1
_SHARED_PER_S = 4.0  # requests; of fewer, what is left is mostly 0 and says nothing
_EASE_PER_S, _YIELD_PER_S, _GIVE_BACK = 0.02, 0.05, 0.8
_LEAST_SHARE = 0.05
_MOST_PER_S = 1e9


class QuotaRate:
    """When the next request may start, for one quota.

    Args:
        given_per_s: The quota, when a person gave it.
        slow_start: Without anything known, start slowly and double ten times a second: the first requests
            are few when the quota is small, and hardly anything is lost when there is none.
        now_s: The event loop's time.

    Attributes:
        rate: Per second, now; infinite when nothing limits it.
        next_s: When the next request may start.
        sent: What was charged so far.
    """

    def __init__(self, given_per_s: float | None, *, slow_start: bool, now_s: float) -> None:
        self.sent = 0.0
        self._given = math.inf if given_per_s is None else given_per_s * _MARGIN
        self._reported: float | None = None
        self._headroom, self._learned = Headroom(), LearnedRate()
        self._is_opening = slow_start and math.isinf(self._given)
        self._doubling_s = _FIRST_DOUBLING_S
        self.rate = _FIRST_PER_S if self._is_opening else self._given
        self.next_s = now_s - (_CATCH_UP_S if _EVEN_S * self._given >= 1 else 0.0)
        self._cost = 1.0
        self._last_s = self._reopened_s = self._used_up_s = now_s
        self._refused = self._refused_before = 0.0
        self._sent_before: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether the rate is a quota's, rather than where the search for one has come."""
        return self.rate < math.inf and not self._is_opening

    def start(self, now_s: float, cost: float) -> None:
        """A request of this cost starts now; sets when the next one may."""
        self.sent += cost
        self._cost = cost or self._cost
        if self.rate == math.inf:
            return
        if now_s - self.next_s <= _CATCH_UP_S + self._cost / self.rate / 4:
            # Only a request that the pace held up can show that it may be faster.
            self._adapt(now_s)
        self._last_s = now_s
        interval_s = cost / self.rate
        catch_up_s = _CATCH_UP_S if interval_s <= _EVEN_S else 0.0
        self.next_s = max(self.next_s, now_s - catch_up_s) + interval_s

    def observe(self, per_s: float | None, left: float | None, now_s: float) -> None:
        """Take in a reply's headers: the rate, and what is left to be used at once."""
        if per_s is None:
            return
        is_other = self._reported is None or not 1 / _OTHER < per_s / self._reported < _OTHER
        if is_other:
            # What was learned of another quota does not count.
            self._reported, self._is_opening = per_s, False
            self._headroom, self._learned = Headroom(), LearnedRate()
        if left is not None:
            self._headroom.observe(left, per_s, now_s, busy=now_s - self.next_s <= _CATCH_UP_S)
        follows = self._learned.rate is None and not self._is_shared
        if is_other or follows or self.rate > self._ceiling():
            self._go(self._ceiling(), now_s)

    def refused(self, cost: float) -> None:
        """A request of this cost was not let through."""
        self._refused += cost

    def used_up(self, sent_before: float, sent_s: float, now_s: float, reopens_s: float) -> None:
        """The quota was used up: the first refusal of an episode.

        Args:
            sent_before: What ``sent`` was when the refused request started.
            sent_s: When it started.
            now_s: When it was refused.
            reopens_s: When requests may start again.
        """
        self._go(min(self._after_refusal(sent_before, sent_s, reopens_s - now_s), self._ceiling()), now_s)
        self._sent_before, self._used_up_s = sent_before, sent_s
        self._refused_before = self._refused
        self._last_s = self._reopened_s = reopens_s

    def _after_refusal(self, sent_before: float, sent_s: float, wait_s: float) -> float:
        if self._is_shared:
            return self.rate * _GIVE_BACK
        if self._sent_before is None:
            # Nothing to measure from yet; the next time shows the rate.
            self._doubling_s = _DOUBLING_S
            return self.rate * _FIRST_BACK_OFF if self._is_opening else self.rate
        if self._reported:
            self._learned.expect(self._reported, self._cost)
        refused = self._refused - self._refused_before
        served = max(sent_before - self._sent_before - refused, 0.0)
        learned = self._learned.used_up(served, max(sent_s - self._used_up_s, 0.001), self._cost)
        self._is_opening = False
        # Refused right after the wait: the wait that was asked for says more than nothing served.
        least = self._cost / max(wait_s, 0.001) if served < self._cost else 0.0
        return max(learned * _BACK_OFF, least)

    @property
    def _is_shared(self) -> bool:
        """Whether headers say enough to share the quota with other processes that read them."""
        return self._reported is not None and self._reported > _SHARED_PER_S * self._cost

    def _ceiling(self) -> float:
        reported = math.inf if self._reported is None else self._reported * self._headroom.factor
        return min(self._given, reported, _MOST_PER_S)

    def _adapt(self, now_s: float) -> None:
        seconds = min(max(0.0, now_s - self._last_s), 1.0)
        rate = self.rate
        if self._is_opening:
            # A loop that was busy for long must not make a burst of it.
            rate *= min(2.0 ** (seconds / self._doubling_s), _FASTEST_OPENING)
        elif self._reported is not None and self._is_shared:
            change = -_YIELD_PER_S * rate if self._headroom.is_scarce else _EASE_PER_S * self._reported
            rate = max(rate + change * seconds, min(rate, _LEAST_SHARE * self._reported))
        elif self._learned.rate is not None and self._has_risen(now_s):
            rate *= 2.0 ** (seconds / self._doubling_s)
        elif self._learned.rate is not None:
            doubtful = _PROBE_PER_DOUBT * self._learned.doubt
            per_s, per_request = max(_PROBE_PER_S, doubtful), max(_PROBE_PER_REQUEST, doubtful)
            rate += self._learned.rate * min(per_s * seconds, per_request)
        self._go(min(rate, self._ceiling()), now_s)

    def _has_risen(self, now_s: float) -> bool:
        """Whether so much passed since the last refusal that the quota must be more than was learned."""
        calm_s = now_s - self._reopened_s
        if calm_s < _CALM_S:
            return False
        if self._refused < _FEW_REFUSED * self.sent:
            return True  # refusals are rare enough to find out by one more
        sent = self.sent - (self._sent_before or 0.0) - (self._refused - self._refused_before)
        if calm_s >= _LONG_CALM_S and sent >= _LONG_CALM_REQUESTS * self._cost:
            return True
        expected = (self._learned.rate or 0.0) * (now_s - self._used_up_s)
        return sent > _RISEN * expected + _RISEN_REQUESTS * self._cost

    def _go(self, rate: float, now_s: float) -> None:
        """Change the rate, from the request that waits now on."""
        if rate != self.rate and self.next_s > now_s:
            self.next_s = now_s + (self.next_s - now_s) * (self.rate / rate if self.rate < math.inf else 1.0)
        self.rate = rate

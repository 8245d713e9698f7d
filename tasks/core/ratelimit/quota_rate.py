"""Request rate under one quota, of requests or of tokens.

The rate is the lowest of these:

- given: the quota that the user configured. Requests are spaced evenly from the first one.
- reported: the quota in the headers of replies. While some of it is left, the rate rises by a fixed amount
  per second; when hardly any is left, it falls by a fraction (AIMD), so processes that share a deployment
  converge to equal shares.
- learned: the rate that was served between two refusals (replies with status 429). It then rises slowly until
  the next refusal. When much more than expected was served without a refusal, the quota has grown, and the
  rate doubles every second.

Until one of them is known, the rate starts low and doubles ten times a second (slow start). Amounts are
requests or tokens. Times are the event loop's.

Each constant was varied alone against the simulated deployment of ``test_pacing``: without headers, 1,200
requests/min, and a bucket that saves 10 s of quota, unless stated otherwise. "Used" is the part of the quota
that was used, more than 1 where the bucket was full at the start; "refused" is the part of all requests.
"Here" is the result with the constant's own value. Each value was run once, so differences of 0.3% are noise.
"""

import math

from tasks.core.ratelimit.rate_estimates import Headroom, LearnedRate

_GIVEN_MARGIN = 0.99
"""Part of a given quota that is used. More: a request that the network delivers early is refused; at 1.0,
0.08% of 40,000 tokens/min with a bucket of 1 s (here none). Less: quota is not used."""
_CATCH_UP_S = 0.1
"""How late a timer may be so that the next requests make up for it. Less: the rate falls behind on a busy
event loop. More: a burst after a delay. At 0, 0.990 of a given quota are used, at 0.5, 0.998 (here 0.992).
The event loop was not busy in these runs; 0.1 s is an estimate."""
_CATCH_UP_MAX_INTERVAL_S = 0.5
"""Longest interval between requests for which delays are made up. More: under a quota of few requests, two
that are close together are refused; at 5.0, 0.08% of 40,000 tokens/min, given, with a bucket of 1 s (here
none)."""
_FIRST_PER_S = 20.0
"""Rate at the beginning of slow start. More fills the window sooner and is refused more often. At 5, a window
of 256 is full after 1.01 s and 1.4% of 40,000 tokens/min are refused; at 100, 0.92 s and 2.0% (here 1.00 s
and 1.6%)."""
_FIRST_DOUBLING_S = 0.1
"""Doubling time in slow start. Less fills the window sooner and is refused more often. At 0.05, a window of
256 is full after 0.8 s and 4.4% are refused; at 0.5, 2.9 s and 0.7% (here 1.0 s and 1.8%)."""
_FIRST_BACK_OFF = 1 / 8
"""Factor on the rate at the refusal that ends slow start: the rate has doubled several times before a refusal
is received. At 0.5, 4.4% are refused (here 1.8%); at 0.02, 0.88 of the quota are used with a bucket of 1 s
(here 1.00)."""
_MAX_GROWTH = 1.5
"""Largest growth in slow start from one request to the next, so that a busy event loop causes no burst. At
1.1, a window of 256 is full after 1.15 s (here 1.0 s). 4.0 made no difference: no event loop was busy."""
_DOUBLING_S = 1.0
"""Doubling time after slow start. Less finds a grown quota sooner and is refused more often. For a quota that
falls to a tenth and comes back: at 0.3, 2.6% are refused and it is used again after 52 s; at 5.0, 1.5% and 65
s (here 1.8% and 57 s)."""
_BACK_OFF = 0.99
"""Part of the learned rate to go on with after a refusal. At 1.0, 2.1% of 40,000 tokens/min are refused (here
1.6%); at 0.9, 0.84 of the quota are used with a bucket of 1 s (here 1.00)."""
_PROBE_PER_S = 0.01
"""Rise of the rate per second between refusals, as a part of the learned rate. More finds a grown quota
sooner and is refused more often. 0.003 and 0.03 made no difference."""
_PROBE_PER_REQUEST = 1.5e-4
"""Limit of this rise per request, so that a slow rate is not refused after every few requests. At 1e-3, 2.3%
of 40,000 tokens/min are refused (here 1.6%); 5e-5 made no difference."""
_PROBE_PER_UNCERTAINTY = 0.08
"""Both are at least this part of the learned rate's uncertainty: a rate measured over few requests may be far
too low. At 0, 0.59 of 40,000 tokens/min are used (here 1.02); at 0.3, 2.9% are refused (here 1.6%)."""
_CALM_S = 4.0
"""Shortest time without a refusal after which the quota may have grown. Less reacts to a short pause; more
follows a grown quota later. 1 s and 15 s made no difference; 4 s are several usual latencies."""
_FEW_REFUSED = 0.005
"""While less than this part of all requests was refused, the rate doubles after ``_CALM_S``: one more refusal
is cheap. At 0.05, a quota that came back is used after 2 s (here 57 s), but 1.3% are refused with a bucket of
1 s (here 0.6%)."""
_LONG_CALM_S = 15.0
"""After this time without a refusal, and enough requests, the rate doubles in any case. At 5 s, 2.2% are
refused (here 1.8%); at 60 s, half of a quota that came back is used two minutes later (here all)."""
_LONG_CALM_REQUESTS = 150.0
"""Enough requests for that. At 30, 3.6% of 10 requests/min are refused (here 1.3%); at 1,000, a third of a
quota that came back is used two minutes later (here all)."""
_GROWN = 1.05
"""The rate also doubles when more than this multiple of the expected amount was served since the last
refusal. Less mistakes variation for a grown quota; more finds it later. At 1.0, a quota that came back is
used after 22 s (here 57 s); 1.5 made no difference."""
_GROWN_REQUESTS = 3.0
"""Requests to be served above that multiple, since a few requests vary much. At 0, 30% of 10 requests/min are
refused (here 1.3%); 20 made no difference."""
_OTHER_QUOTA = 1.1
"""A reported quota that differs by this factor is another one, and what was learned is discarded. Less takes
rounding for a change, more keeps an outdated rate. For a fall to a tenth, 1.01 and 2.0 made no difference."""
_SHARED_PER_S = 4.0
"""Below this rate, in requests/s, a quota is not shared by its headers: they mostly report 0 left. At 40,
three processes that share 20 requests/s use 0.15, 0.15 and 0.70 of them (here 0.29, 0.35 and 0.36)."""
_EASE_PER_S = 0.02
"""Rise per second under a shared quota, as a part of the quota. More converges sooner and is refused more
often: at 0.1, 1.3% with three processes (here 0.4%). 0.005 was as good after some minutes."""
_YIELD_PER_S = 0.05
"""Fall per second, as a part of the rate, while hardly any quota is left. More converges sooner and varies
more. With three processes 0.01 and 0.3 were as good."""
_GIVE_BACK = 0.8
"""Factor on the rate at a refusal under a shared quota. Less wastes quota after a refusal, more is refused
again. With three processes 0.5 and 0.95 were as good."""
_LEAST_SHARE = 0.05
"""Part of a reported quota below which the rate does not fall, or headers that always report 0 left would
stop the run. More takes from other processes; 0.005 and 0.3 made no difference to three."""
_MAX_PER_S = 1e9
"""Keeps the rate finite; far above what one process can send."""


class QuotaRate:
    """When the next request may start, under one quota.

    Args:
        given_per_s: The quota, if the user gave one.
        slow_start: Start slowly and double ten times a second while no quota is known. A small quota gets
            only a few requests too many then, and a large one is used after about a second.
        now_s: The event loop's time.

    Attributes:
        rate: Amount per second, now; infinite when nothing limits it.
        next_s: When the next request may start.
        sent: The amount that was sent so far.
    """

    def __init__(self, given_per_s: float | None, *, slow_start: bool, now_s: float) -> None:
        self.sent = 0.0
        self._given = math.inf if given_per_s is None else given_per_s * _GIVEN_MARGIN
        self._reported: float | None = None
        self._headroom, self._learned = Headroom(), LearnedRate()
        self._in_slow_start = slow_start and math.isinf(self._given)
        self._doubling_s = _FIRST_DOUBLING_S
        self.rate = _FIRST_PER_S if self._in_slow_start else self._given
        self.next_s = now_s - (_CATCH_UP_S if _CATCH_UP_MAX_INTERVAL_S * self._given >= 1 else 0.0)
        self._cost = 1.0
        self._adjusted_s = self._resumed_s = self._exhausted_s = now_s
        self._refused = self._refused_before = 0.0
        self._sent_before: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether the rate is that of a quota, and not that of slow start."""
        return self.rate < math.inf and not self._in_slow_start

    def start(self, now_s: float, cost: float) -> None:
        """Count a request of this cost that starts now, and set when the next one may start."""
        self.sent += cost
        self._cost = cost or self._cost
        if self.rate == math.inf:
            return
        if now_s - self.next_s <= _CATCH_UP_S + self._cost / self.rate / 4:
            # Only a request that waited for the rate is evidence about it.
            self._adjust(now_s)
        self._adjusted_s = now_s
        interval_s = cost / self.rate
        catch_up_s = _CATCH_UP_S if interval_s <= _CATCH_UP_MAX_INTERVAL_S else 0.0
        self.next_s = max(self.next_s, now_s - catch_up_s) + interval_s

    def observe(self, per_s: float | None, left: float | None, now_s: float) -> None:
        """Adjust the rate to a reply's headers: the quota per second, and how much of it is left now."""
        if per_s is None:
            return
        is_other = self._reported is None or not 1 / _OTHER_QUOTA < per_s / self._reported < _OTHER_QUOTA
        if is_other:
            # What was learned about another quota is not valid for this one.
            self._reported, self._in_slow_start = per_s, False
            self._headroom, self._learned = Headroom(), LearnedRate()
        if left is not None:
            self._headroom.observe(left, per_s, now_s, busy=now_s - self.next_s <= _CATCH_UP_S)
        follows = self._learned.rate is None and not self._is_shared
        if is_other or follows or self.rate > self._max_rate():
            self._set_rate(self._max_rate(), now_s)

    def count_refused(self, cost: float) -> None:
        """Count a request of this cost that was refused."""
        self._refused += cost

    def back_off(self, sent_before: float, sent_s: float, now_s: float, resume_s: float) -> None:
        """Lower the rate at the first refusal of an episode, and learn from what was served before it.

        Args:
            sent_before: The value of ``sent`` when the refused request started.
            sent_s: When it started.
            now_s: When it was refused.
            resume_s: When requests may start again.
        """
        rate = self._after_refusal(sent_before, sent_s, resume_s - now_s)
        self._set_rate(min(rate, self._max_rate()), now_s)
        self._sent_before, self._exhausted_s = sent_before, sent_s
        self._refused_before = self._refused
        self._adjusted_s = self._resumed_s = resume_s

    def _after_refusal(self, sent_before: float, sent_s: float, wait_s: float) -> float:
        if self._is_shared:
            return self.rate * _GIVE_BACK
        if self._sent_before is None:
            # A rate is measured between two refusals, and this is the first.
            self._doubling_s = _DOUBLING_S
            return self.rate * _FIRST_BACK_OFF if self._in_slow_start else self.rate
        if self._reported:
            self._learned.expect(self._reported, self._cost)
        refused = self._refused - self._refused_before
        served = max(sent_before - self._sent_before - refused, 0.0)
        learned = self._learned.add(served, max(sent_s - self._exhausted_s, 0.001), self._cost)
        self._in_slow_start = False
        # If the first request after a wait is refused, the wait shows more than zero served requests do.
        least = self._cost / max(wait_s, 0.001) if served < self._cost else 0.0
        return max(learned * _BACK_OFF, least)

    @property
    def _is_shared(self) -> bool:
        """Whether the headers are precise enough to share the quota with other processes that read them."""
        return self._reported is not None and self._reported > _SHARED_PER_S * self._cost

    def _max_rate(self) -> float:
        reported = math.inf if self._reported is None else self._reported * self._headroom.factor
        return min(self._given, reported, _MAX_PER_S)

    def _adjust(self, now_s: float) -> None:
        seconds = min(max(0.0, now_s - self._adjusted_s), 1.0)
        rate = self.rate
        if self._in_slow_start:
            rate *= min(2.0 ** (seconds / self._doubling_s), _MAX_GROWTH)
        elif self._reported is not None and self._is_shared:
            change = -_YIELD_PER_S * rate if self._headroom.is_scarce else _EASE_PER_S * self._reported
            rate = max(rate + change * seconds, min(rate, _LEAST_SHARE * self._reported))
        elif self._learned.rate is not None and self._has_grown(now_s):
            rate *= 2.0 ** (seconds / self._doubling_s)
        elif self._learned.rate is not None:
            uncertain = _PROBE_PER_UNCERTAINTY * self._learned.uncertainty
            per_s, per_request = max(_PROBE_PER_S, uncertain), max(_PROBE_PER_REQUEST, uncertain)
            rate += self._learned.rate * min(per_s * seconds, per_request)
        self._set_rate(min(rate, self._max_rate()), now_s)

    def _has_grown(self, now_s: float) -> bool:
        """Whether time and requests since the last refusal show that the quota is larger than learned."""
        calm_s = now_s - self._resumed_s
        if calm_s < _CALM_S:
            return False
        if self._refused < _FEW_REFUSED * self.sent:
            return True
        served = self.sent - (self._sent_before or 0.0) - (self._refused - self._refused_before)
        if calm_s >= _LONG_CALM_S and served >= _LONG_CALM_REQUESTS * self._cost:
            return True
        expected = (self._learned.rate or 0.0) * (now_s - self._exhausted_s)
        return served > _GROWN * expected + _GROWN_REQUESTS * self._cost

    def _set_rate(self, rate: float, now_s: float) -> None:
        """Set the rate; the interval that the next request waits for is scaled to it."""
        if rate != self.rate and self.next_s > now_s:
            self.next_s = now_s + (self.next_s - now_s) * (self.rate / rate if self.rate < math.inf else 1.0)
        self.rate = rate

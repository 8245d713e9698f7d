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
There was one run of each, so differences of 0.3% are noise.
"""

import math

from tasks.core.ratelimit.rate_estimates import Headroom, LearnedRate

_GIVEN_MARGIN = 0.99
"""Part of a given quota that is used. Higher: a request that the network delivers early is refused (at 1.0,
0.08% refused of 40,000 tokens/min with a bucket of 1 s). Lower: quota is not used (0.97 used at 0.97)."""
_CATCH_UP_S = 0.1
"""Delay of a timer that the next requests make up for. Less: the rate falls behind on a busy event loop.
More: a burst after a delay. Used of a given quota: 0.990 at 0, 0.992 here, 0.998 at 0.5. No event loop was
busy there: 0.1 is an estimate of how late its timers may be."""
_CATCH_UP_MAX_INTERVAL_S = 0.5
"""Longest interval between requests for which delays are made up. More: where the quota admits single
requests, two close together are refused (at 5.0, 0.08% of 40,000 tokens/min, given, with a bucket of 1 s)."""
_FIRST_PER_S = 20.0
"""Rate at the beginning of slow start. Higher fills the window sooner and gets more refusals: a window of 256
is full after 1.01 s at 5, 1.00 s here, 0.92 s at 100; refused of 40,000 tokens/min: 1.4%, 1.6%, 2.0%."""
_FIRST_DOUBLING_S = 0.1
"""Doubling time in slow start. At 0.05 the window of 256 is full after 0.8 s, not 1.0 s, but 4.4% are refused
in two minutes, not 1.8%; at 0.5 after 2.9 s, with 0.7% refused."""
_FIRST_BACK_OFF = 1 / 8
"""Factor on the rate at the refusal that ends slow start: the rate has doubled several times before a refusal
is received. At 0.5, 4.4% are refused, not 1.8%; at 0.02, 0.88 of the quota is used with a bucket of 1 s, not
1.00."""
_MAX_GROWTH = 1.5
"""Largest growth in slow start from one request to the next, so that a busy event loop causes no burst. At
1.1 the window of 256 is full after 1.15 s, not 1.0 s; 4.0 made no difference, as no event loop was busy."""
_DOUBLING_S = 1.0
"""Doubling time after slow start, while the quota is searched for again. At 0.3, 2.6% are refused, not 1.8%,
when the quota falls to a tenth and comes back; at 5.0 it is used again 65 s after it came back, not 57 s."""
_BACK_OFF = 0.99
"""Part of the learned rate to go on with after a refusal. At 1.0, 2.1% of 40,000 tokens/min are refused, not
1.6%; at 0.9, 0.84 of the quota is used with a bucket of 1 s, not 1.00."""
_PROBE_PER_S = 0.01
"""Rise of the rate per second between refusals, as a part of the learned rate. More finds a grown quota
sooner and is refused more often. 0.003 and 0.03 made no difference."""
_PROBE_PER_REQUEST = 1.5e-4
"""The most that it rises per request, so that a slow rate is not refused after every few requests. At 1e-3,
2.3% of 40,000 tokens/min are refused, not 1.6%; 5e-5 made no difference."""
_PROBE_PER_UNCERTAINTY = 0.08
"""Both are at least this part of the learned rate's uncertainty: a rate measured over few requests may be far
too low. At 0, 0.59 of 40,000 tokens/min are used, not 1.02; at 0.3, 2.9% are refused, not 1.6%."""
_CALM_S = 4.0
"""Shortest time without a refusal after which the quota may have grown. Less reacts to a short pause, more
follows a grown quota later. 1 s and 15 s made no difference; 4 s are a few usual latencies of a reply."""
_FEW_REFUSED = 0.005
"""While less than this part of all requests was refused, the rate doubles then, since one more refusal is
cheap. At 0.05 a quota that came back is used after 2 s, not 57 s, but 1.3% are refused with a bucket of 1 s,
not 0.6%."""
_LONG_CALM_S = 15.0
"""After so long, and enough requests, without a refusal, the rate doubles in any case. At 5 s, 2.2% are
refused, not 1.8%; at 60 s only half of a quota that came back is used two minutes later."""
_LONG_CALM_REQUESTS = 150.0
"""Enough requests for that. At 30, 3.6% of 10 requests/min are refused, not 1.3%; at 1,000 only a third of a
quota that came back is used two minutes later."""
_GROWN = 1.05
"""The rate also doubles once more than this multiple of the expected amount was served since the last
refusal. Less mistakes variation for a grown quota; more finds it later. At 1.0 a quota that came back is used
after 22 s, not 57 s, without more refusals; at 1.5 there was no difference."""
_GROWN_REQUESTS = 3.0
"""So many requests more than that, since a few requests vary much. At 0, 30% of 10 requests/min are refused,
not 1.3%; 20 made no difference."""
_OTHER_QUOTA = 1.1
"""A reported quota that differs by this factor is another one, and what was learned is discarded. Less takes
rounding for a change, more keeps an outdated rate. For a fall to a tenth, 1.01 and 2.0 made no difference."""
_SHARED_PER_S = 4.0
"""A quota of fewer requests/s is not shared by its headers: what they report as left is mostly 0. At 40,
three processes that share 20 requests/s used 0.15, 0.15 and 0.70 of it; here 0.29, 0.35 and 0.36."""
_EASE_PER_S = 0.02
"""Rise per second under a shared quota, as a part of the quota. More converges sooner and is refused more
often: of three processes 1.3% at 0.1, not 0.4%; 0.005 was as good after some minutes."""
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
        slow_start: Start slowly and double ten times a second while no quota is known: a small quota gets few
            requests too many, and without a quota little time is lost.
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
        """Use the headers of a reply: the quota per second, and how much of it is left now."""
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

"""May this PDS be asked now? What all backfillers know of a host together, in Redis: its pace, its rests, its health.

A host has a bucket of requests, filled at the pace that its RateLimit fields leave us, or at our own where it has none.
A host that does not answer several times in a row is down: for a while it is not asked, then by one job, and if that
fails for twice as long. Whoever is refused gets a time to come back at; these times follow one another at the pace.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.errors import TryLater
from common.rate_limits import RateLimit
from common.redis_connection import is_outage

LONGEST_WAIT_SECONDS = 3600.0
DOWN_AFTER_FAULTS = 5
FIRST_DOWN_SECONDS = 30.0
DEAD_AFTER_SECONDS = 6 * 3600.0
BURST_SECONDS = 10.0
PROBE_SECONDS = 60.0
FASTEST = 100.0  # requests a second, however generous a host says it is
KEPT_SECONDS = 86_400
REASONS = {b"slow": "host_paced", b"rest": "host_at_rest", b"down": "host_down"}

# ARGV: pace (a second), burst, 1 if urgent, milliseconds that a probe has, how long to keep it. Answers: what,
# milliseconds to wait, how long it has been down. Who is urgent may overdraw the bucket, and stands in no line.
_ASK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local names =
  {'tokens', 'at', 'pace', 'pace_until', 'window', 'most', 'rest', 'down', 'probe', 'since', 'promised'}
local host = {}
for i, text in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do host[names[i]] = tonumber(text) or 0 end
local usual, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
if host.most > 0 then usual, burst = host.most / host.window * 1000, math.min(burst, host.most) end
local pace = host.pace_until > now and host.pace or usual
burst = math.max(burst, 1)
local urgent = ARGV[3] == '1'
local function refuse(what, at)
  if not urgent then
    at = math.max(at, host.promised)
    at = at + 800 / (at < host.pace_until and host.pace or usual)
    redis.call('HSET', KEYS[1], 'promised', math.min(at, now + 3600000))
  end
  return {what, math.ceil(at - now), host.since > 0 and now - host.since or 0}
end
redis.call('EXPIRE', KEYS[1], ARGV[5])
if host.rest > now then return refuse('rest', host.rest) end
if host.down > now then return refuse('down', host.down) end
if host.down > 0 and host.probe > now then return refuse('down', host.probe) end
local tokens = burst
if host.at > 0 then tokens = math.min(burst, host.tokens + (now - host.at) * pace / 1000) end
local least = urgent and -burst or 0
if tokens < least + 1 then return refuse('slow', now + (least + 1 - tokens) * 1000 / pace) end
if host.down > 0 then redis.call('HSET', KEYS[1], 'probe', now + ARGV[4]) end
redis.call('HSET', KEYS[1], 'tokens', tokens - 1, 'at', now)
redis.call('EXPIRE', KEYS[1], ARGV[5])
return {'go', 0, 0}
"""

# ARGV: what ('answer', 'rest' or 'fault'), milliseconds of rest, requests left, milliseconds until they are renewed,
# the most in such a window (as long as the longest of these times), faults that make it down, for how many milliseconds
# at first, milliseconds that the request took, how long to keep it.
_TELL = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key, what = KEYS[1], ARGV[1]
local function field(name) return tonumber(redis.call('HGET', key, name)) or 0 end
if what == 'fault' then
  local faults, was_down = redis.call('HINCRBY', key, 'faults', 1), field('down')
  if field('since') == 0 then redis.call('HSET', key, 'since', now) end
  if was_down <= now and (was_down > 0 or faults >= tonumber(ARGV[6])) then
    local times = redis.call('HINCRBY', key, 'times_down', 1)
    redis.call('HSET', key, 'down', now + math.min(ARGV[7] * 2 ^ (times - 1), 3600000), 'probe', 0)
  end
else
  redis.call('HDEL', key, 'faults', 'since', 'down', 'probe', 'times_down')
  if what == 'rest' then redis.call('HSET', key, 'rest', math.max(field('rest'), now + ARGV[2])) end
  if ARGV[3] ~= '' then
    local left, reset = tonumber(ARGV[3]), tonumber(ARGV[4])
    redis.call('HSET', key, 'pace', math.max(left / reset * 1000, 0.1), 'pace_until', now + reset)
    if field('tokens') > left then redis.call('HSET', key, 'tokens', left) end
    if tonumber(ARGV[5]) > 0 then
      redis.call('HSET', key, 'most', ARGV[5], 'window', math.max(field('window'), reset))
    end
    if left == 0 then redis.call('HSET', key, 'rest', math.max(field('rest'), now + reset)) end
  end
  local mean = field('mean_ms')
  redis.call('HSET', key, 'mean_ms', mean + (ARGV[8] - mean) / (mean > 0 and 5 or 1))
end
redis.call('EXPIRE', key, ARGV[9])
"""

_NOTHING_SAID: tuple[Any, ...] = ("", "", 0)


@dataclass(frozen=True, slots=True)
class HostLook:
    """How a host stands: `state` is "paced", "at rest" or "down", for `wait_seconds` more."""

    requests_per_second: float
    requests_left: int | None
    state: str
    wait_seconds: float
    mean_seconds: float

    def seconds_each(self, at_once: int) -> float:
        """How long a repo takes, one with another, if `at_once` are downloaded."""
        return max(1 / self.requests_per_second, self.mean_seconds / at_once)


class Permits:
    def __init__(
        self,
        redis: Redis,
        stream: str,
        *,
        requests_per_second: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stream` names the keys; `requests_per_second` is the pace for a host that says nothing of its own."""
        self._redis = redis
        self._stream = stream
        self._pace = requests_per_second
        self._clock = clock
        self._asked = redis.register_script(_ASK)
        self._tell = redis.register_script(_TELL)
        self._left_alone: dict[str, tuple[str, float]] = {}

    async def ask(self, host: str, urgent: bool) -> None:
        """Raises TryLater("host_paced", "host_at_rest", "host_down"), or "host_dead" if it was down for hours.

        Without Redis nobody is refused: what was fetched could not be written anyway.
        """
        args = [self._pace, self._pace * BURST_SECONDS, int(urgent), int(PROBE_SECONDS * 1000), KEPT_SECONDS]
        answer = await self._run(self._asked, host, args)
        if answer is None or answer[0] == b"go":
            self._left_alone.pop(host, None)
            return
        what, wait_ms, down_ms = answer
        seconds = min(wait_ms / 1000, LONGEST_WAIT_SECONDS)
        self._remember(host, REASONS[what], seconds)
        is_dead = what == b"down" and down_ms > DEAD_AFTER_SECONDS * 1000
        raise TryLater("host_dead" if is_dead else REASONS[what], host, seconds)

    async def answered(self, host: str, seconds: float, limit: RateLimit | None, rest_seconds: float | None) -> None:
        """It took so many seconds; `rest_seconds` is how long the host wants to be left alone, if it does."""
        left = _NOTHING_SAID
        if limit is not None:
            fastest = int(FASTEST * limit.reset_seconds)
            reset_ms = int(limit.reset_seconds * 1000)
            left = (min(limit.remaining, fastest), reset_ms, min(limit.limit, fastest))
        what = "answer" if rest_seconds is None else "rest"
        if rest_seconds is not None:
            self._remember(host, "host_at_rest", rest_seconds)
        await self._told(host, what, rest_seconds or 0.0, left, seconds)

    async def failed(self, host: str) -> None:
        """There was no answer, or none that a host which is well would give."""
        await self._told(host, "fault", 0.0, _NOTHING_SAID, 0.0)

    async def look(self, host: str) -> HostLook:
        """What all backfillers know of it."""
        found: Any = await self._redis.hgetall(self._key(host))
        known = {name.decode(): float(text) for name, text in found.items()}
        now = time.time() * 1000
        usual = known["most"] / known["window"] * 1000 if known.get("most") else self._pace
        in_window = known.get("pace_until", 0.0) > now
        rest, down = known.get("rest", 0.0) - now, known.get("down", 0.0) - now
        state = "down" if known.get("down") else "at rest" if rest > 0 else "paced"
        return HostLook(
            requests_per_second=known["pace"] if in_window else usual,
            requests_left=int(known["tokens"]) if in_window and "tokens" in known else None,
            state=state,
            wait_seconds=max(rest, down, 0.0) / 1000,
            mean_seconds=known.get("mean_ms", 0.0) / 1000,
        )

    def left_alone(self, reason: str) -> int:
        """How many hosts this process was last told to leave alone, for now, for this reason."""
        now = self._clock()
        return sum(why == reason and until > now for why, until in self._left_alone.values())

    def _remember(self, host: str, reason: str, seconds: float) -> None:
        now = self._clock()
        if len(self._left_alone) > 10_000:
            self._left_alone = {name: kept for name, kept in self._left_alone.items() if kept[1] > now}
        self._left_alone[host] = (reason, now + seconds)

    async def _told(self, host: str, what: str, rest_seconds: float, left: tuple[Any, ...], seconds: float) -> None:
        limits = [DOWN_AFTER_FAULTS, int(FIRST_DOWN_SECONDS * 1000), int(seconds * 1000), KEPT_SECONDS]
        await self._run(self._tell, host, [what, int(rest_seconds * 1000), *left, *limits])

    async def _run(self, script: Any, host: str, args: list[Any]) -> Any:
        try:
            return await script(keys=[self._key(host)], args=args)
        except (RedisError, OSError) as error:
            if not is_outage(error):
                raise
            return None

    def _key(self, host: str) -> str:
        return f"{self._stream}:host:{host}"

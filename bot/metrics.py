"""What the bot counts and measures, in Prometheus' terms, without any id or text; one object a bot, nothing global."""

import time
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)


class Metrics:
    """Counters and gauges; `polled` and `text` are what the health page needs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.updates = self._counter("updates", "Updates by what became of them", "outcome")
        self.replies = self._counter("replies", "Replies of the model by how they ended", "finish")
        self.reply_tokens = Counter("tertulia_reply_tokens", "Tokens of replies", registry=self.registry)
        self.prompt_tokens = Counter("tertulia_prompt_tokens", "Tokens of prompts", registry=self.registry)
        self.calls = self._counter("telegram_calls", "Calls of the Bot API by what came of them", "outcome")
        self.errors = self._counter("errors", "Failures by kind", "kind")
        self.tokens_per_s = self._gauge("tokens_per_s", "Speed of the last reply, after its first token")
        self.waiting = self._gauge("waiting_updates", "Updates that wait or are being answered")
        self.generating = self._gauge("generating_replies", "Replies in the making")
        self.first_token = self._histogram("first_token_seconds", "From a message's turn to its reply's first token")
        self.total = self._histogram("reply_seconds", "From a message's turn to its whole reply")
        self.last_poll: float | None = None
        self._gauge("last_poll_age_seconds", "Since Telegram last answered; -1: never").set_function(self.poll_age)

    def polled(self) -> None:
        """Telegram has just answered, or called the webhook's server."""
        self.last_poll = time.monotonic()

    def poll_age(self) -> float:
        """Seconds since `polled`, -1 if it never was."""
        return -1.0 if self.last_poll is None else time.monotonic() - self.last_poll

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)

    def watch(self, engine: object) -> None:
        """Show how many replies an engine makes and how many wait for it, if it can tell."""
        for name in ("num_running", "num_waiting"):
            if hasattr(engine, name):
                gauge = self._gauge(f"engine_{name.removeprefix('num_')}", f"The engine's {name}")
                gauge.set_function(partial(getattr, engine, name))

    def total_of(self, name: str) -> int:
        """A counter or gauge, over all its labels."""
        samples = (sample for family in self.registry.collect() for sample in family.samples)
        return round(sum(sample.value for sample in samples if sample.name == name))

    def _counter(self, name: str, text: str, label: str) -> Counter:
        return Counter(f"tertulia_{name}", text, (label,), registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"tertulia_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"tertulia_{name}", text, buckets=_SECONDS, registry=self.registry)

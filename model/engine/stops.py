"""Holds back the end of a growing text while it may still become a stop string."""

from collections.abc import Sequence


class TextGate:
    """Lets text through as soon as it is certain, together with the ids that say it. One gate serves one reply."""

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self.stopped = False
        self._stops = tuple(stop for stop in stop_strings if stop)
        self._held = ""
        self._shown = 0  # characters let through
        self._ids: list[tuple[int, int]] = []  # (id, length of the whole text with it), not let through yet

    def push(self, token: int, text: str) -> tuple[str, tuple[int, ...]]:
        """Add a token and the text that became certain with it -> text and ids to show.

        An id comes with the last of its text, so either may be empty.
        """
        self._held += text
        self._ids.append((token, self._shown + len(self._held)))
        return self._release(self._certain())

    def flush(self, text: str = "") -> tuple[str, tuple[int, ...]]:
        """At the end of the reply: everything that is left, up to a stop string."""
        self._held += text
        cut = self._stop_at()
        shown = self._release(len(self._held) if cut is None else cut)
        rest = () if self.stopped else tuple(token for token, _ in self._ids)
        self._ids.clear()
        return shown[0], shown[1] + rest

    def _certain(self) -> int:
        """How many held characters can be shown: up to a stop string, or to the longest beginning of one at the end."""
        cut = self._stop_at()
        if cut is not None:
            return cut
        for begin in range(max(0, len(self._held) - max(map(len, self._stops), default=0)), len(self._held)):
            if any(stop.startswith(self._held[begin:]) for stop in self._stops):
                return begin
        return len(self._held)

    def _stop_at(self) -> int | None:
        found = [cut for cut in (self._held.find(stop) for stop in self._stops) if cut >= 0]
        self.stopped = bool(found)
        return min(found, default=None)

    def _release(self, size: int) -> tuple[str, tuple[int, ...]]:
        text, self._held = self._held[:size], "" if self.stopped else self._held[size:]
        self._shown += size
        count = sum(end <= self._shown for _, end in self._ids)  # ends never decrease
        ids = tuple(token for token, _ in self._ids[:count])
        del self._ids[:count]
        return text, ids

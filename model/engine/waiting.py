"""Requests that wait for a slot: bounded, and fair between owners."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from model.engine.request import Request
from model.errors import EngineBusy

# The share of the line that one owner may fill; requests without an owner are each their own.
OWNERS_SHARE = 4


class WaitingLine:
    """Owners take turns, one request each; an owner's own requests keep their order. Guarded by the engine's lock."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._lines: OrderedDict[object, deque[Request]] = OrderedDict()  # the owner whose turn it is first

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def add(self, request: Request) -> None:
        """Raises EngineBusy when the line, or the owner's share of it, is full."""
        owner = request.owner or request
        line = self._lines.get(owner, ())
        if len(self) >= self.longest or len(line) >= max(1, self.longest // OWNERS_SHARE):
            raise EngineBusy(f"{len(self)} replies are waiting already: try again in a moment")
        self._lines.setdefault(owner, deque()).append(request)

    def end_cancelled(self) -> None:
        """Those that nobody wants any more give up their places, wherever they stand."""
        for owner, line in list(self._lines.items()):
            for request in [request for request in line if request.cancel.is_set()]:
                request.finish("cancelled")
                line.remove(request)
            if not line:
                del self._lines[owner]

    def take(self, crowds: Callable[[Request], bool], fits: Callable[[Request], bool]) -> Request | None:
        """The next request in turn, of those that do not crowd; its owner goes to the end.

        While it does not fit nobody passes it: a large one would wait for as long as small ones come.
        """
        for owner, line in self._lines.items():
            if crowds(line[0]):
                continue
            if not fits(line[0]):
                return None
            request = line.popleft()
            self._lines.move_to_end(owner)
            if not line:
                del self._lines[owner]
            return request
        return None

    def cancel_all(self) -> None:
        for line in self._lines.values():
            for request in line:
                request.finish("cancelled")
        self._lines.clear()

"""Which adapter serves: one small file, replaced whole, with the way that led there.

Always: a reader sees one state or the next and never a mixture, since everything that belongs together is in this one
file; the serial grows by one with each change.
"""

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from training.errors import RegistryError
from training.whole_file import write_whole

KEPT_CHANGES = 500  # of the history, the newest
NEVER = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Change:
    """One line of the history. A forced one was made against the gate's verdict, which `reasons` then quote."""

    serial: int
    at: datetime
    what: str  # promote, rollback, share, stop-share, retire, delete
    adapter: str | None
    forced: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pointer:
    """adapter None: the bare base. A candidate gets `share` of the chats."""

    serial: int = 0
    adapter: str | None = None
    candidate: str | None = None
    share: float = 0.0
    since: datetime = NEVER  # of the last change
    before: tuple[str | None, ...] = ()  # what served earlier, the last one is what a rollback goes to
    changes: tuple[Change, ...] = ()

    def changed(
        self, what: str, of: str | None, *, forced: bool = False, reasons: tuple[str, ...] = (), **fields: object
    ) -> "Pointer":
        """The next state, with a line about what was done with the adapter `of`."""
        serial, at = self.serial + 1, datetime.now(UTC)
        changes = (*self.changes, Change(serial, at, what, of, forced, reasons))[-KEPT_CHANGES:]
        return replace(self, serial=serial, since=at, changes=changes, **fields)  # type: ignore[arg-type]


def read_pointer(path: Path) -> Pointer:
    """The state that is on disk; where none is, the bare base serves. Raises RegistryError."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        share = float(fields["share"])
        if not 0.0 <= share < 1.0 or (fields["candidate"] is None) != (share == 0.0):
            raise ValueError(f"share is {share} with the candidate {fields['candidate']}")
        changes = tuple(
            Change(**{**line, "at": datetime.fromisoformat(line["at"]), "reasons": tuple(line["reasons"])})
            for line in fields["changes"]
        )
        return Pointer(
            serial=int(fields["serial"]),
            adapter=_name(fields["adapter"]),
            candidate=_name(fields["candidate"]),
            share=share,
            since=datetime.fromisoformat(fields["since"]),
            before=tuple(map(_name, fields["before"])),
            changes=changes,
        )
    except FileNotFoundError:
        return Pointer()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"{path} cannot be read ({error}): delete it, then `tertulia adapters promote` the adapter that shall serve"
        ) from None


def write_pointer(path: Path, pointer: Pointer) -> None:
    """Put `pointer` in the place of the state that is on disk. Raises RegistryError if it cannot be written."""
    try:
        write_whole(path, json.dumps(asdict(pointer), default=datetime.isoformat, indent=1).encode())
    except OSError as error:
        raise RegistryError(f"{path} cannot be written ({error.strerror}): nothing is changed; try again") from None


def _name(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no adapter")
    return value

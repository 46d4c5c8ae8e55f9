"""The registry: adapters in a folder, which one serves, and what led there.

Always: a change is on disk, whole, when its method returns; changes come one after the other, whoever makes them; what
serves, or is tried on a share of the chats, is there and can be loaded.
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from training.errors import RegistryError
from training.registry.entry import LINEAGE, Entry, Forgotten, check_id, digests, read_entry, write_entry, write_mark
from training.registry.lineage import Lineage
from training.registry.lock import hold
from training.registry.pointer import Change, Pointer, read_pointer, write_pointer

POINTER, WRITING, TRAINING = "serving.json", "writing.lock", "training.lock"
WAIT_S = 10.0  # a change takes milliseconds
LOCK_WAIT_S = 2.0  # a trainer's lock is also held for moments, by who erases what people took back

Entries = list[Entry]  # in the class `list` is the method


class Registry:
    """The adapters below `root`; any number of processes may use it."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser()
        self.pointer_file = self.root / POINTER

    def lock(self, what: str = "training") -> AbstractContextManager[None]:
        """Be the only trainer on this registry; changes of what serves do not wait for it. Raises RegistryBusy."""
        return hold(self.root / TRAINING, what, LOCK_WAIT_S)

    # What there is

    def ids(self) -> tuple[str, ...]:
        """Of all adapters, also of damaged ones."""
        folders = (path.parent.name for path in self.root.glob(f"*/{LINEAGE}"))
        return tuple(sorted(name for name in folders if not name.startswith(".")))

    def list(self) -> Entries:
        """All adapters, the oldest first. Raises RegistryError naming one whose lineage cannot be read."""
        return sorted(map(self.get, self.ids()), key=lambda entry: (entry.lineage.created_at, entry.id))

    def get(self, adapter_id: str) -> Entry:
        """Raises RegistryError if there is none of that id."""
        folder = self.root / check_id(adapter_id)
        if not folder.is_dir():
            raise RegistryError(f"there is no adapter {adapter_id}: see `tertulia adapters list`")
        return read_entry(folder)

    def serving(self) -> Pointer:
        """What serves now."""
        return read_pointer(self.pointer_file)

    def changes(self) -> tuple[Change, ...]:
        """What was changed, the oldest first."""
        return self.serving().changes

    # What changes it

    def add(self, adapter_folder: Path, lineage: Lineage, adapter_id: str | None = None) -> str:
        """Copy a PEFT adapter into the registry -> its id. It does not serve yet.

        The rows of its parent count as its own: what was learnt from them is in it. Asked twice is as once. Raises
        RegistryError if the id is another adapter's or the folder is no adapter.
        """
        name = check_id(adapter_id or f"{lineage.created_at:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
        if lineage.parent is not None:
            rows = {*lineage.row_ids, *self.get(lineage.parent).lineage.row_ids}
            lineage = replace(lineage, row_ids=tuple(sorted(rows)))
        with self._writing("add"):
            if not (self.root / name).exists():
                write_entry(self.root / name, adapter_folder, lineage)
            elif self.get(name).files != digests(adapter_folder):
                raise RegistryError(f"there is another adapter {name} already: choose another id")
        return name

    def promote(
        self, adapter_id: str, *, reasons: tuple[str, ...] = (), forced: bool = False, base: str | None = None
    ) -> Pointer:
        """Let an adapter serve all chats, from now on in every running process; a trial ends. Asked twice is as once.

        `base` is the hash of the base that it shall serve on. `forced`: also if the gate refused it; the history says
        so. Raises RegistryError: no such adapter, damaged, for another base, refused by the gate, retired.
        """
        with self._writing("promote"):
            now = self.serving()
            told = (*reasons, *self._check(adapter_id, base, forced))
            if now.adapter == adapter_id and now.candidate is None:
                return now
            before = now.before if now.adapter == adapter_id else (*now.before, now.adapter)
            fields = {"adapter": adapter_id, "candidate": None, "share": 0.0, "before": before}
            return self._point(now.changed("promote", adapter_id, forced=forced, reasons=told, **fields))

    def rollback(self, *, reasons: tuple[str, ...] = ()) -> Pointer:
        """Take the last promotion back, or end the trial if one is on; again, and the one before that.

        Retired, damaged and missing adapters are passed over. Raises RegistryError if there is nothing to go back to.
        """
        with self._writing("rollback"):
            now = self.serving()
            if now.candidate is not None:
                return self._point(now.changed("stop-share", now.candidate, reasons=reasons, candidate=None, share=0.0))
            if not now.before:
                serves = "the bare base" if now.adapter is None else now.adapter
                raise RegistryError(f"there is nothing to go back to: {serves} serves, and nothing did before")
            return self._point(self._stepped_back(now, "rollback", reasons))

    def start_share(
        self,
        adapter_id: str,
        share: float,
        *,
        reasons: tuple[str, ...] = (),
        forced: bool = False,
        base: str | None = None,
    ) -> Pointer:
        """Try an adapter on this share of the chats, beside what serves; it takes the place of another candidate.

        Raises RegistryError as `promote` does, or if it serves already or `share` is not between 0 and 1.
        """
        if not 0.0 < share < 1.0:
            raise RegistryError(f"the share is {share:g}: expected a number above 0 and below 1, for instance 0.1")
        with self._writing("share"):
            now = self.serving()
            told = (*reasons, *self._check(adapter_id, base, forced))
            if now.adapter == adapter_id:
                raise RegistryError(f"{adapter_id} serves all chats already: there is nothing to try")
            if (now.candidate, now.share) == (adapter_id, share):
                return now
            return self._point(
                now.changed("share", adapter_id, forced=forced, reasons=told, candidate=adapter_id, share=share)
            )

    def stop_share(self, *, candidate: str | None = None, reasons: tuple[str, ...] = ()) -> Pointer:
        """End the trial; with `candidate` only if it is that one's. Without a trial nothing happens."""
        with self._writing("stop-share"):
            now = self.serving()
            if now.candidate is None or candidate not in (None, now.candidate):
                return now
            return self._point(now.changed("stop-share", now.candidate, reasons=reasons, candidate=None, share=0.0))

    def mark_forgotten(self, adapter_id: str, num_rows: int, *, retire: bool) -> bool:
        """Note that so many of its rows were taken back -> whether that is new. A mark is never taken away.

        `retire`: it also leaves service at once, for what served before it, and is never promoted again.
        """
        with self._writing("forget"):
            entry, now = self.get(adapter_id), self.serving()
            old = entry.forgotten or Forgotten(0, datetime.now(UTC))
            mark = replace(old, num_rows=max(num_rows, old.num_rows), retired=old.retired or retire)
            if entry.forgotten != mark:
                write_mark(entry, mark)
            if mark.retired:
                reasons = (f"{mark.num_rows} of its rows were taken back",)
                if now.candidate == adapter_id:
                    now = self._point(now.changed("retire", adapter_id, reasons=reasons, candidate=None, share=0.0))
                if now.adapter == adapter_id:
                    self._point(self._stepped_back(now, "retire", reasons))
            return entry.forgotten != mark

    def delete(self, adapter_id: str) -> None:
        """Delete an adapter's files. Raises RegistryError if there is none of that id, or it serves or is on trial."""
        folder = self.root / check_id(adapter_id)
        with self._writing("delete"):
            now = self.serving()
            if not folder.is_dir():
                raise RegistryError(f"there is no adapter {adapter_id}: see `tertulia adapters list`")
            if adapter_id == now.adapter:
                raise RegistryError(f"{adapter_id} is in service: promote another one or roll back before")
            if adapter_id == now.candidate:
                raise RegistryError(
                    f"{adapter_id} is on trial with {100 * now.share:g} % of the chats: "
                    "end it with `tertulia adapters rollback` first"
                )
            before = tuple(name for name in now.before if name != adapter_id)
            self._point(now.changed("delete", adapter_id, before=before))
            folder.rename(self.root / f".{adapter_id}.deleted")
            for left in self.root.glob(".*.deleted"):  # also of one that was killed here
                shutil.rmtree(left)

    def _check(self, adapter_id: str, base: str | None, forced: bool) -> tuple[str, ...]:
        """Raise RegistryError if it may not serve -> the gate's objections that are overridden."""
        entry = self.get(adapter_id)
        if entry.forgotten is not None and entry.forgotten.retired:
            raise RegistryError(f"{adapter_id} is retired: it was trained on what people have taken back; train again")
        entry.check_files()
        if base is not None:
            entry.check_base(base)
        refused = entry.lineage.refused_for
        if refused and not forced:
            raise RegistryError(f"the gate refused {adapter_id}: {'; '.join(refused)} (--force overrides that)")
        return refused

    def _stepped_back(self, now: Pointer, what: str, reasons: tuple[str, ...]) -> Pointer:
        """What served before, or the bare base if that is not to be had any more."""
        before = now.before
        while before:
            *rest, earlier = before
            before = tuple(rest)
            if earlier != now.adapter and self._may_serve(earlier):
                return now.changed(what, now.adapter, reasons=reasons, adapter=earlier, before=before)
        return now.changed(what, now.adapter, reasons=reasons, adapter=None, before=())

    def _may_serve(self, adapter_id: str | None) -> bool:
        if adapter_id is None:
            return True
        try:
            mark = self.get(adapter_id).forgotten
        except RegistryError:  # deleted by hand, or damaged
            return False
        return mark is None or not mark.retired

    def _point(self, pointer: Pointer) -> Pointer:
        write_pointer(self.pointer_file, pointer)
        return pointer

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        with hold(self.root / WRITING, what, WAIT_S):
            yield

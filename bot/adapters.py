"""Which adapter answers whom, as the registry's pointer says, in a process that goes on running.

Always: a chat gets an adapter and its name as one thing, so what is written of a reply is what made it; a reply keeps
the adapter it began with; one that cannot be taken up leaves in service what was, and says why in one line.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bot.settings import Settings
from model.errors import ModelError
from training.dialogues import DialogueLog
from training.errors import RegistryError, TrainingError
from training.registry import Pointer, Registry
from training.registry.forgotten import lost_rows, mark_forgotten
from training.run_texts import forget_rows

logger = logging.getLogger(__name__)

EVERY_S = 1.0  # the pointer is looked at
AGAIN_S = 30.0  # what could not be taken up is tried

# Reads the adapter in a folder under a name, as `model.engine.adapters.read_adapter`; raises ModelError.
Read = Callable[[Path, str], Any]


@dataclass(frozen=True)
class _Serving:
    """What was taken up of one state of the pointer."""

    pointer: Pointer
    control: Any = None
    candidate: Any = None


class ServedAdapters:
    """The adapters in service on one loaded base; any thread may ask.

    `base` is the hash of that base. Looking and loading happens in the thread that asks, at most every second, and only
    in one at a time: the others go on with what is there.
    """

    def __init__(self, registry: Registry, base: str, read: Read) -> None:
        self.registry = registry
        self.base = base
        self.problem: str | None = None  # why what the pointer says is not, or not all, in service here
        self._read = read
        self._serving = _Serving(Pointer())
        self._loaded: dict[str, tuple[Mapping[str, str], Any]] = {}  # by id: sha256 of its files, the adapter
        self._seen: object = None  # tells one pointer file from the next
        self._looked_at = self._failed_at = float("-inf")
        self._looking = threading.Lock()

    def of(self, owner: str) -> Any:
        """The adapter for a reply to `owner` that begins now; None: the bare base. Without an owner: the control."""
        self.refresh(max_age_s=EVERY_S)
        serving = self._serving
        if serving.candidate is not None and owner and is_in_share(owner, serving.pointer):
            return serving.candidate
        return serving.control

    @property
    def pointer(self) -> Pointer:
        """The state that is in service here."""
        return self._serving.pointer

    def refresh(self, *, max_age_s: float = 0.0) -> None:
        """Take up what the pointer says, unless it was looked at within `max_age_s` or another thread is at it."""
        if time.monotonic() - self._looked_at < max_age_s or not self._looking.acquire(blocking=False):
            return
        try:
            seen = self._signature()
            failed = self.problem is not None and time.monotonic() - self._failed_at > AGAIN_S
            if seen != self._seen or failed:
                self._take_up(self.registry.serving())
                self._seen = seen
        except RegistryError as error:  # the pointer itself cannot be read
            self._tell(str(error))
        finally:
            self._looked_at = time.monotonic()
            self._looking.release()

    def _signature(self) -> object:
        try:
            found = self.registry.pointer_file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _take_up(self, pointer: Pointer) -> None:
        problems: list[str] = []
        control = self._load(pointer.adapter, problems)
        candidate = self._load(pointer.candidate, problems)
        if pointer.adapter is not None and control is None and self._may_stay():
            control = self._serving.control
        self._serving = _Serving(pointer, control, candidate)
        names = {one.name for one in (control, candidate) if one is not None}
        self._loaded = {name: pair for name, pair in self._loaded.items() if name in names}
        self._tell("; ".join(problems) or None)
        serves = None if control is None else control.name
        logger.info("in service adapter=%s candidate=%s share=%g", serves, pointer.candidate, pointer.share)

    def _load(self, adapter_id: str | None, problems: list[str]) -> Any:
        """The adapter, or None with a line more in `problems`."""
        if adapter_id is None:
            return None
        try:
            entry = self.registry.get(adapter_id)
            if adapter_id not in self._loaded or self._loaded[adapter_id][0] != entry.files:
                entry.check_base(self.base)
                entry.check_files()
                self._loaded[adapter_id] = entry.files, self._read(entry.folder, adapter_id)
            return self._loaded[adapter_id][1]
        except (TrainingError, ModelError, OSError) as error:
            problems.append(str(error))
            return None

    def _may_stay(self) -> bool:
        """Whether what serves may go on, now that its successor cannot be loaded."""
        if self._serving.control is None:
            return False
        try:
            mark = self.registry.get(self._serving.control.name).forgotten
        except RegistryError:
            return False
        return mark is None or not mark.retired

    def _tell(self, problem: str | None) -> None:
        if problem is not None:
            self._failed_at = time.monotonic()
            if problem != self.problem:
                logger.warning("%s", problem)
        self.problem = problem


def is_in_share(owner: str, pointer: Pointer) -> bool:
    """Whether a chat is one of those that try the candidate: always the same ones, other ones for another candidate."""
    digest = hashlib.sha256(f"{pointer.candidate}/{owner}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < pointer.share * 2**64


def forget_taken_back(settings: Settings, log: DialogueLog) -> list[str]:
    """Mark the adapters that learnt from what people have taken back, and erase it from the runs -> newly marked ones.

    They leave service at once if the settings say so. Raises TrainingError for what is damaged, after the rest.
    """
    try:
        return mark_forgotten(Registry(settings.adapters_dir), log, retire=settings.retire_forgotten)
    finally:
        forget_rows(settings.runs_dir, partial(lost_rows, log))

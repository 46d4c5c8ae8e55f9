"""The folder of one training run: what was asked, how far it is, what it found. Without torch.

Always: run.json and what is kept beside it are replaced whole; a phase stands as done only when all it wrote is on
disk, so that after a kill the same command goes on with the phase that was cut.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.errors import RunError
from training.whole_file import write_whole

PHASES = ("collect", "validate", "tune", "judge", "promote", "report")
STATE = "run.json"
SNAPSHOT = "snapshot"  # kept under this name: data_hash, counts, row_ids, seen_ids
GIVEN_UP = "given up"
DATA, CHECKPOINTS, ADAPTER, JUDGEMENT, PAGE = "data", "checkpoints", "adapter", "judgement.json", "report.html"


class Run:
    """One run in `folder`; what is read of it is what run.json says now."""

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        self.folder = folder
        self.state = state

    @classmethod
    def begin(cls, runs_folder: Path, options: Mapping[str, Any]) -> "Run":
        """A new run of these options (JSON values), in a folder of its own that only its owner reads."""
        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        folder = runs_folder / run_id
        folder.mkdir(parents=True, mode=0o700)
        run = cls(folder, {"run_id": run_id, "began_at": now.isoformat(), "options": dict(options), "done": []})
        run._save()
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run in `folder`. Raises RunError if there is none that can be read."""
        path = folder / STATE
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{folder} is not the folder of a training run: {STATE} is missing") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}): delete the folder and train again") from None
        if not _is_state(state):
            raise RunError(f"{path} is not the state of a training run: delete the folder and train again")
        return cls(folder, state)

    @classmethod
    def unreadable(cls, folder: Path) -> "Run":
        """In place of a run whose state cannot be read: nothing is known of it but its folder."""
        return cls(folder, {"run_id": folder.name, "done": []})

    @property
    def is_readable(self) -> bool:
        return _is_state(self.state)

    @property
    def id(self) -> str:
        return str(self.state["run_id"])

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.state["options"])

    @property
    def began_at(self) -> datetime:
        return datetime.fromisoformat(self.state["began_at"])

    @property
    def ended_at(self) -> datetime | None:
        """When it came to its end: with a verdict, or given up."""
        return datetime.fromisoformat(self.state["ended_at"]) if "ended_at" in self.state else None

    @property
    def next_phase(self) -> str | None:
        """The first phase that is not done; None: the run has ended."""
        if self.ended_at is not None:
            return None
        return next((phase for phase in PHASES if phase not in self.state["done"]), None)

    def is_done(self, phase: str) -> bool:
        return phase in self.state["done"]

    def finish(self, phase: str, seconds: float) -> None:
        """A phase is done: what it wrote is on disk. With the last one the run has ended."""
        assert phase in PHASES, phase
        if phase == "promote" and self.is_done("report"):  # a page that was looked at before the verdict is not the end
            self._change(done=[one for one in self.state["done"] if one != "report"])
        fields: dict[str, Any] = {"seconds": self.seconds | {phase: seconds}}
        if phase not in self.state["done"]:
            fields["done"] = [*self.state["done"], phase]
        if phase == PHASES[-1] and self.ended_at is None and len(fields.get("done", ())) == len(PHASES):
            fields["ended_at"] = datetime.now(UTC).isoformat()
        self._change(**fields)

    def decide(self, outcome: str, reasons: tuple[str, ...]) -> None:
        """What becomes of the candidate: "promoted", "shared", "refused" or "forced"."""
        self._change(outcome=outcome, reasons=list(reasons))

    def give_up(self, reason: str) -> None:
        """The run ends without a verdict."""
        self._change(outcome=GIVEN_UP, reasons=[reason], ended_at=datetime.now(UTC).isoformat())

    def set_options(self, options: Mapping[str, Any]) -> None:
        self._change(options=dict(options))

    @property
    def outcome(self) -> str | None:
        return self.state.get("outcome")

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(self.state.get("reasons", ()))

    @property
    def seconds(self) -> dict[str, float]:
        return dict(self.state.get("seconds", {}))

    def keep(self, name: str, value: Any) -> None:
        """Keep a JSON value as NAME.json in the folder."""
        write_whole(self.folder / f"{name}.json", json.dumps(value, ensure_ascii=False, indent=1).encode())

    def kept(self, name: str) -> Any:
        """What was kept under this name, or None."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def _change(self, **fields: Any) -> None:
        self.state = {**self.state, **fields}
        self._save()

    def _save(self) -> None:
        write_whole(self.folder / STATE, json.dumps(self.state, ensure_ascii=False, indent=1).encode())


def _is_state(state: Any) -> bool:
    """Whether it is of one of our runs, and no date in it would stop who reads all of them."""
    try:
        dates = [datetime.fromisoformat(state[name]) for name in ("began_at", "ended_at") if name in state]
        has_fields = isinstance(state["done"], list) and isinstance(state["options"], dict) and "run_id" in state
    except (KeyError, TypeError, ValueError):
        return False
    return has_fields and "began_at" in state and all(date.tzinfo is not None for date in dates)


def folders(runs_folder: Path) -> list[Path]:
    """Of the runs there are, also of those that cannot be read; folders that are none of ours are passed over."""
    return sorted(path.parent for path in runs_folder.glob(f"*/{STATE}"))


def every(runs_folder: Path) -> Iterator[Run]:
    """The runs there are, the oldest first. Raises RunError naming one that cannot be read."""
    yield from sorted(map(Run.open, folders(runs_folder)), key=lambda run: (run.began_at, run.id))


def find(runs_folder: Path, run_id: str | None) -> Run:
    """The run of that name, or the newest. Raises RunError naming those there are."""
    there = list(every(runs_folder))
    found = [run for run in there if run_id in (None, run.id)]
    if not found:
        names = ", ".join(run.id for run in there[-5:]) or "none: begin with `tertulia train collect`"
        raise RunError(f"there is no training run {run_id or ''} in {runs_folder}: there are {names}")
    return found[-1]


def unfinished(runs_folder: Path) -> list[Run]:
    """Those that were cut or stopped before their end."""
    return [run for run in every(runs_folder) if run.next_phase is not None]

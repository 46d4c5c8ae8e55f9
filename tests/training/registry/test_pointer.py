"""A promotion that is killed at any moment: what serves is the old state or the new one, never a mixture."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.registry.conftest import Add
from training.registry import Registry

ROOT = Path(__file__).parents[3]

# In the child process the n-th call of a function of os ends in kill -9, before it is made or after.
KILLED = """
import os, signal, sys
from pathlib import Path
from training.registry import Registry

root, name, when, number, change = sys.argv[1:]
real, calls = getattr(os, name), 0

def counted(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(number) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **kwargs)
    if calls == int(number) and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

registry = Registry(Path(root))
setattr(os, name, counted)
eval(change)
"""

ENDLESS = """
import itertools, sys
from pathlib import Path
from training.registry import Registry

registry = Registry(Path(sys.argv[1]))
print("begun", flush=True)
for name in itertools.cycle("ab"):
    registry.promote(name)
"""


def child(code: str, *args: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, args)]


@pytest.mark.parametrize(
    ("name", "when", "number", "is_new"),
    [
        ("open", "after", 2, False),  # the lock, then the file aside: it is still empty
        ("fsync", "before", 1, False),  # written, not synced
        ("fsync", "after", 1, False),
        ("rename", "before", 1, False),
        ("rename", "after", 1, True),
        ("fsync", "before", 2, True),  # renamed, the folder not synced
        ("fsync", "after", 2, True),
    ],
)
def test_killed_between_write_fsync_and_rename(
    registry: Registry, add: Add, name: str, when: str, number: int, is_new: bool
) -> None:
    add("a")
    add("b")
    old = registry.promote("a")
    args = child(KILLED, registry.root, name, when, number, "registry.promote('b')")
    done = subprocess.run(args, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    found = registry.serving()
    if is_new:
        assert (found.adapter, found.serial, found.before) == ("b", old.serial + 1, (None, "a"))
    else:
        assert found == old
    assert registry.promote("b").adapter == "b"  # the lock went with the process
    assert registry.rollback().adapter == "a"


@pytest.mark.parametrize(
    ("name", "when", "number"), [("fsync", "before", 1), ("rename", "before", 1), ("rename", "after", 1)]
)
def test_a_killed_delete_or_add_leaves_a_whole_adapter_or_none(
    registry: Registry, add: Add, tmp_path: Path, name: str, when: str, number: int
) -> None:
    add("a")
    add("b")
    made = tmp_path / "made" / "a"
    again = f"registry.add(Path({str(made)!r}), registry.get('a').lineage, 'c')"
    for change in ("registry.delete('b')", again):
        done = subprocess.run(
            child(KILLED, registry.root, name, when, number, change), cwd=ROOT, check=False, timeout=60
        )
        assert done.returncode == -signal.SIGKILL
        for entry in registry.list():
            entry.check_files()
        assert registry.list()[0].id == "a"
    assert add("b") == "b"
    registry.add(made, registry.get("a").lineage, "c")
    assert sorted(entry.id for entry in registry.list()) == ["a", "b", "c"]


def test_killed_at_random_moments_while_others_read(registry: Registry, add: Add) -> None:
    """A reader polls without a lock: it must never meet half a file, nor a serial that goes back."""
    add("a")
    add("b")
    drawn = random.Random(7)
    serial = 0
    for _ in range(5):
        process = subprocess.Popen(child(ENDLESS, registry.root), cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + drawn.uniform(0.05, 0.3)
        while time.monotonic() < until:
            found = registry.serving()
            assert found.serial >= serial
            assert found.adapter == (None if found.serial == 0 else found.changes[-1].adapter)
            serial = found.serial
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = registry.serving()
        assert len(found.changes) == min(500, found.serial)
    assert serial > 5

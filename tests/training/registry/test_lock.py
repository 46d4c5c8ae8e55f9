"""One writer at a time, over processes; who has to wait is told for whom."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.training.registry.conftest import Add
from training.errors import RegistryBusy
from training.registry import Registry
from training.registry.lock import hold

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.registry.registry.LOCK_WAIT_S", 0.0)


HOLDER = """
import sys, time
from pathlib import Path
from training.registry import Registry

with Registry(Path(sys.argv[1])).lock("training run-7"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_trainer_is_told_who_holds_the_lock_and_gets_it_after_a_kill(registry: Registry, add: Add) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, registry.root], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(RegistryBusy) as caught, registry.lock("training"):
            pass
        message = str(caught.value)
        assert f"training run-7 by process {holder.pid} on {socket.gethostname()} since 20" in message
        assert "\n" not in message
        add("a")  # what serves can be changed while a trainer holds its lock for hours
        assert registry.promote("a").adapter == "a"
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()  # type: ignore[union-attr]
    with registry.lock("training"):
        pass


def test_the_same_process_does_not_get_it_twice(registry: Registry) -> None:
    with registry.lock(), pytest.raises(RegistryBusy, match=f"by process {os.getpid()} "), registry.lock():
        pass


def test_a_change_waits_for_the_one_before_and_then_says_for_whom(
    registry: Registry, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("a")
    monkeypatch.setattr("training.registry.registry.WAIT_S", 0.1)
    with hold(registry.root / "writing.lock", "delete"), pytest.raises(RegistryBusy, match=r"delete by process \d+ on"):
        registry.promote("a")
    monkeypatch.setattr("training.registry.registry.WAIT_S", 30.0)
    done = threading.Event()

    def promote() -> None:
        registry.promote("a")
        done.set()

    with hold(registry.root / "writing.lock", "delete"):
        thread = threading.Thread(target=promote)
        thread.start()
        assert not done.wait(0.1)
    thread.join(30)
    assert done.is_set()
    assert registry.serving().adapter == "a"


def test_many_writers_at_once_lose_no_change(registry: Registry, add: Add) -> None:
    """Two read-modify-writes of the pointer without a lock would lose one of them."""
    for name in "abcd":
        add(name)
    code = (
        "import sys; from pathlib import Path; from training.registry import Registry\n"
        "for _ in range(10): Registry(Path(sys.argv[1])).promote(sys.argv[2])"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, registry.root, name], cwd=ROOT, stderr=subprocess.PIPE)
        for name in "abcd"
    ]
    for process in running:
        assert process.communicate(timeout=120)[1] == b""
    pointer = registry.serving()
    assert pointer.serial == len(pointer.changes) == len(pointer.before)
    assert list(pointer.before[1:]) == [line.adapter for line in pointer.changes[:-1]]


def test_the_lock_file_says_nothing_yet_when_its_holder_is_just_signing(tmp_path: Path) -> None:
    with hold(tmp_path / "x.lock", "training"):
        (tmp_path / "x.lock").write_text("")
        with pytest.raises(RegistryBusy, match=re.escape("in use: by another process")), hold(tmp_path / "x.lock", "y"):
            pass

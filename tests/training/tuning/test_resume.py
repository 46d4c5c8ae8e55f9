"""Interrupted runs: killed at any moment they end as an uninterrupted one; what is not theirs is refused."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.lora import ADAPTER_WEIGHTS
from tests.training.tuning.small import QUICK, save_model, snapshot
from tests.training.tuning.worker import train_and_tell
from training.errors import TuneError
from training.tuning.results import TuneResult
from training.tuning.trainer import tune

# Chance in every step, so that a state which was not restored would show.
CHANGES = {"dropout": 0.1, "neftune": 5.0, "checkpoint_s": 0.0, "targets": ("q_proj", "fc_in")}
OPTIONS = replace(QUICK, **CHANGES)


@pytest.fixture(scope="module")
def uninterrupted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> TuneResult:
    return run(tiny, tmp_path_factory.mktemp("uninterrupted"))


def run(model: Path, folder: Path, **changes: object) -> TuneResult:
    return tune(model, snapshot(), replace(OPTIONS, **changes), folder, device="cpu", dtype="float32")


def same(result: TuneResult, expected: TuneResult) -> bool:
    assert result.losses == expected.losses
    assert result.held_out_losses == expected.held_out_losses
    assert (result.best_step, result.steps, result.tokens) == (expected.best_step, expected.steps, expected.tokens)
    return (result.adapter / ADAPTER_WEIGHTS).read_bytes() == (expected.adapter / ADAPTER_WEIGHTS).read_bytes()


class Trainer:
    """A training process of its own, killed with SIGKILL; forked from a clean server that has imported torch."""

    def __init__(self, model: Path, folder: Path) -> None:
        # With another number of threads than this process has, sums would differ in their last bit.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.training.tuning.worker"])
        self.heard, theirs = context.Pipe(duplex=False)
        self.process = context.Process(
            target=train_and_tell, args=(theirs, model, folder, CHANGES, torch.get_num_threads())
        )
        self.process.start()
        theirs.close()

    def wait_for(self, step: int) -> None:
        """Until it has taken that step, or has ended."""
        with suppress(EOFError):
            while self.heard.recv() < step:
                pass

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def test_killed_runs_end_with_the_bits_of_an_uninterrupted_one(
    tiny: Path, tmp_path: Path, uninterrupted: TuneResult
) -> None:
    """Real kills: right after a step (the checkpoint is being written), and a moment later."""
    for step, pause_s in ((1, 0.0), (3, 0.004), (5, 0.002), (7, 0.02)):
        trainer = Trainer(tiny, tmp_path)
        trainer.wait_for(step)
        time.sleep(pause_s)
        trainer.kill()
    assert same(run(tiny, tmp_path), uninterrupted)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_leave_no_trace(tiny: Path, tmp_path: Path, uninterrupted: TuneResult) -> None:
    dice = random.Random(5)
    folder = tmp_path / "run"
    for kill in range(1, 21):
        if (folder / "adapter").exists():  # it was through before the kill
            shutil.rmtree(folder)
        trainer = Trainer(tiny, folder)
        trainer.wait_for(dice.choice([0, 0, 1, 4, 8]))
        time.sleep(dice.random() * dice.choice([0.02, 0.3]))
        trainer.kill()
        if kill % 4 == 0 and folder.exists():
            assert same(run(tiny, shutil.copytree(folder, tmp_path / f"copy{kill}")), uninterrupted)
    assert same(run(tiny, folder), uninterrupted)


def interrupt(model: Path, folder: Path, after: int) -> None:
    """Stop in the middle of a step, in this process: cheaper than a kill, and as sudden for what is on disk."""

    class Stop(Exception):
        pass

    asked = 0

    def may_run() -> bool:
        nonlocal asked
        asked += 1
        if asked > after:
            raise Stop
        return True

    with pytest.raises(Stop):
        tune(model, snapshot(), OPTIONS, folder, device="cpu", dtype="float32", may_run=may_run)


@pytest.mark.parametrize("after", [1, 3, 7])
def test_a_run_goes_on_from_every_step(tiny: Path, tmp_path: Path, uninterrupted: TuneResult, after: int) -> None:
    """In the warm-up, at an epoch's end and right after an evaluation."""
    interrupt(tiny, tmp_path, after)
    assert same(run(tiny, tmp_path), uninterrupted)


def test_a_finished_run_is_not_run_again(tiny: Path, tmp_path: Path, uninterrupted: TuneResult) -> None:
    folder = shutil.copytree(uninterrupted.adapter.parent, tmp_path / "copy")
    assert same(run(tiny, folder), uninterrupted)
    assert run(tiny, folder).seconds == uninterrupted.seconds
    shutil.rmtree(folder / "adapter")  # killed between the last checkpoint and the adapter
    assert same(run(tiny, folder), uninterrupted)


@pytest.fixture(scope="module")
def interrupted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    interrupt(tiny, folder, 5)
    return folder


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing, it was not written to its end"),
        (lambda f: (f / "optimizer.safetensors").unlink(), "optimizer.safetensors is missing"),
        (lambda f: (f / "state.json").write_text("{}"), "state.json is not what the manifest says"),
        (lambda f: flip(f / "adapter.safetensors"), "adapter.safetensors is not what the manifest says"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json is not JSON"),
        (lambda f: (f / "manifest.json").write_text("[]"), "not of a training run"),
    ],
)
def test_an_incomplete_checkpoint_is_refused(
    tiny: Path, interrupted: Path, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    """transformers' Trainer goes on without an optimizer's state, in silence and with other results."""
    folder = shutil.copytree(interrupted, tmp_path / "copy")
    damage(newest(folder))
    with pytest.raises(TuneError, match=words) as caught:
        run(tiny, folder)
    assert "remove that folder to go on from the checkpoint before it" in str(caught.value)


def test_the_checkpoint_before_a_damaged_one_serves(
    tiny: Path, interrupted: Path, tmp_path: Path, uninterrupted: TuneResult
) -> None:
    folder = shutil.copytree(interrupted, tmp_path / "copy")
    shutil.rmtree(newest(folder))
    assert same(run(tiny, folder), uninterrupted)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(tiny: Path, tmp_path: Path, spm_folder: Path) -> None:
    interrupt(tiny, tmp_path, 2)
    for changes, words in (
        ({"seed": 2}, "its option seed is 1, this one's is 2"),
        ({"targets": ("q_proj",)}, "its option targets is"),
        ({"batch_size": 2}, "its option batch_size is 4, this one's is 2"),
    ):
        with pytest.raises(TuneError, match=words):
            run(tiny, tmp_path, **changes)
    with pytest.raises(TuneError, match="its data is 'd1', this one's is 'd2'"):
        tune(tiny, snapshot("d2"), OPTIONS, tmp_path, device="cpu", dtype="float32")
    with pytest.raises(TuneError, match="its dtype is 'float32', this one's is 'bfloat16'"):
        tune(tiny, snapshot(), OPTIONS, tmp_path, device="cpu", dtype="bfloat16")
    other = save_model(tmp_path / "base", spm_folder, lambda model: model.transformer.ln_f.weight.data.fill_(2.0))
    with pytest.raises(TuneError, match="its base is"):
        run(other, tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_at_a_checkpoint_is_said_and_the_run_goes_on_later(
    tiny: Path, small_disk: Path, uninterrupted: TuneResult
) -> None:
    folder = small_disk / "run"
    interrupt(tiny, folder, 3)
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(b"0" * 4096)
    with pytest.raises(TuneError, match=r"checkpoint of step 4: .*the disk is full.*the one of step 3 stays"):
        run(tiny, folder)
    (small_disk / "ballast").unlink()
    assert same(run(tiny, folder), uninterrupted)


def test_a_clock_between_checkpoints_changes_no_result(tiny: Path, tmp_path: Path, uninterrupted: TuneResult) -> None:
    assert same(run(tiny, tmp_path, checkpoint_s=3600.0), uninterrupted)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000009"]

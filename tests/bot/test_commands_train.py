"""`tertulia train` and its steps, as people call them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bot.settings import Settings
from tests.bot.conftest import Run
from tests.training.killed_run import style_file
from training import runs
from training.tuning.presets import PRESETS

QUICK = ("--no-log", "--rank", "2", "--epochs", "1", "--context", "128")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return style_file(tmp_path / "data.jsonl", 8, 3)


def state(environment: dict[str, str]) -> Path:
    return Path(environment["HOME"]) / ".local" / "state" / "tertulia"


def test_the_whole_loop_tells_what_it_found_and_where(
    tertulia: Run, tiny: Path, data: Path, environment: dict[str, str]
) -> None:
    done = tertulia("train", "--model", tiny, "--data", data, *QUICK)
    assert done.returncode == 0, done.stderr
    (run,) = runs.every(state(environment) / "runs")
    assert done.stdout.startswith(f"run {run.id}, ")
    for part in (
        "before and after",
        "candidate",
        "loss, watched",
        "train_turns",
        "replies side by side",
        "peak memory",
    ):
        assert part in done.stdout
    assert done.stdout.splitlines()[-1] == f"page: {run.folder / runs.PAGE}"
    assert run.options["tune"]["rank"] == 2
    assert "━" not in done.stderr, "a progress bar in a log"


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(
    tertulia: Run, tiny: Path, data: Path, environment: dict[str, str]
) -> None:
    done = tertulia("train", "--dry-run", "--model", tiny, "--data", data, *QUICK)
    assert done.returncode == 0, done.stderr
    for part in ("train_turns", "examples to train on", "training takes about", "peak memory", "fewer than 100"):
        assert part in done.stdout
    assert not (state(environment) / "runs").exists()
    assert not (state(environment) / "adapters").exists()


def test_the_steps_alone_make_the_same_run(tertulia: Run, tiny: Path, data: Path, environment: dict[str, str]) -> None:
    run_id = tertulia("train", "collect", "--model", tiny, "--data", data, "--no-log").stdout.strip()
    early = tertulia("train", "judge", run_id, "--model", tiny)
    assert early.returncode == 2
    assert f"{run_id} is not ready for judge: `tertulia train tune` comes first" in early.stderr
    for step in (
        ("validate",),
        ("tune", "--rank", "2", "--epochs", "1"),
        ("judge",),
        ("promote", "--force"),
        ("report",),
    ):
        done = tertulia("train", *step, "--model", tiny)
        assert done.returncode == 0, (step, done.stderr)
    (run,) = runs.every(state(environment) / "runs")
    assert run.id == run_id
    assert run.next_phase is None
    assert run.outcome in ("forced", "promoted")
    assert (run.folder / runs.PAGE).is_file()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--rank", "4", "tune"), "--rank stands before tune: write `tertulia train tune --rank`"),
        (("--min-new", "5"), "--min-new goes with --every"),
        (("--every", "7d", "--dry-run"), "--dry-run does not go with --every"),
        (("--every", "7d", "--data", "none.jsonl"), "--data is 'none.jsonl': there is no such file"),
        (("--every", "7d", "--preset", "mine"), "preset is 'mine': expected one of lora-gpt3, lora-gpt2, notebook"),
        (("--every", "7d", "--share", "1.5"), "share is 1.5: expected a number above 0 and below 1"),
        (("--every", "7d", "--no-log"), "there is nothing to learn from: give a file with --data"),
        (("--every", "7d", "--model", "./nowhere"), "./nowhere is not a folder, nor the name of a model"),
        (("--every", "7d", "--model", "."), "has no manifest.json: it is not a native checkpoint"),
        (("--every", "weekly"), "--every is 'weekly': expected a number with s, m, h or d behind it"),
        (("--preset", "mine"), "preset is 'mine': expected one of lora-gpt3, lora-gpt2, notebook"),
        (("--rank", "0"), "rank is 0: expected 1 to 512"),
        (("--targets", "lm_head"), "targets are lm_head: expected some of q_proj"),
        (("--time-budget", "8"), "--time-budget is '8': expected a number with s, m, h or d"),
        (("--data", "none.jsonl"), "--data is 'none.jsonl': there is no such file"),
        (("--share", "1.5"), "share is 1.5: expected a number above 0 and below 1"),
        (("--no-log",), "there is nothing to learn from: give a file with --data"),
        (("--method", "ppo"), "ppo"),
        (("--model", "nowhere/at-all"), "nowhere/at-all"),
        (("tune",), "begin with `tertulia train collect`"),
        (("report", "20200101-000000-0000"), "there is no training run 20200101-000000-0000"),
        ((), "nothing is left to train on: the log: it holds no message"),
    ],
)
def test_every_mistake_is_one_line_and_a_code(tertulia: Run, args: tuple[str, ...], said: str) -> None:
    done = tertulia("train", *args)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert said in lines[-1]
    assert lines[-1].startswith("tertulia: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_line_of_a_file_that_is_not_json_is_named(tertulia: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"prompt": "hola", "completion": "¿qué tal?"}) + "\n{no\n")
    done = tertulia("train", "--no-log", "--data", path)
    assert done.returncode == 2
    assert f"{path}, line 2" in done.stderr


def test_the_presets_that_can_be_set_are_those_there_are() -> None:
    from typing import get_args

    assert set(get_args(Settings.model_fields["train_preset"].annotation)) == set(PRESETS)


@pytest.mark.slow
def test_a_step_in_two_processes_is_told_once(
    tertulia: Run, tiny: Path, data: Path, environment: dict[str, str]
) -> None:
    """All processes run the same command; two of them writing the run's state would leave either's."""
    run_id = tertulia("train", "collect", "--model", tiny, "--data", data, "--no-log").stdout.strip()
    launch = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
    done = subprocess.run(
        [*launch, "-m", "bot.cli", "train", "tune", run_id, "--model", str(tiny), "--rank", "2", "--epochs", "1"],
        env=environment | {"TERTULIA_DEVICE": "cpu"},
        cwd=data.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"run {run_id}, ") == 1
    (run,) = runs.every(state(environment) / "runs")
    assert run.next_phase == "validate"
    assert run.is_done("tune")


@pytest.mark.slow
def test_on_a_schedule_it_trains_what_is_due_and_goes_on_waiting(
    tertulia: Run, tiny: Path, data: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """The process stays; what it trains is a process of its own, and no text of people gets into its output."""
    command = ("--model", str(tiny), "--data", str(data), "--no-log")
    tertulia("train", "collect", *command)
    args = [sys.executable, "-m", "bot.cli", "train", "--every", "7d", "--min-new", "2", *command]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(args, env=environment, cwd=tmp_path, stdout=output, stderr=output)
    try:
        until = time.monotonic() + 900
        while "the next is due" not in (said := (tmp_path / "output").read_text()) and time.monotonic() < until:
            assert process.poll() is None, said
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    (run,) = runs.every(state(environment) / "runs")
    assert run.next_phase is None
    assert "going on with the run" in said
    assert f"{run.id}: {run.outcome}" in said
    assert "Neptuno" not in said

"""Several processes train as one does: the same losses and the same adapter, over `accelerate launch`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.lora import ADAPTER_WEIGHTS
from tests.training.tuning.small import QUICK, snapshot
from training.tuning.trainer import tune

# --cpu would start a single process, in silence, where there is no mpirun; --multi_gpu is torchrun, on CPUs too.
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
LAUNCH += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m"]


def launch(model: Path, folder: Path, changes: dict) -> list[dict]:
    """-> what each process printed at its end."""
    command = [sys.executable, *LAUNCH, "tests.training.tuning.worker", str(model), str(folder), json.dumps(changes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.replace("}{", "}\n{").splitlines()  # both may print before either ends its line
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize("method", ["sft", pytest.param("dpo", marks=pytest.mark.slow)])
def test_two_processes_give_the_losses_of_one(tiny: Path, tmp_path: Path, method: str) -> None:
    """Divided by processes instead of by tokens, or with an example seen twice, they would drift apart."""
    changes = {"method": method, "batch_size": 5}  # an odd one: the rows of a step do not come out even
    alone = tune(tiny, snapshot(), replace(QUICK, **changes), tmp_path / "alone", device="cpu", dtype="float32")
    first, second = launch(tiny, tmp_path / "together", changes)
    assert first == second
    for mine, theirs in ((alone.losses, first["losses"]), (alone.held_out_losses, first["held_out"])):
        torch.testing.assert_close(torch.tensor(theirs), torch.tensor(mine), rtol=1e-4, atol=1e-5)
    one, two = (load_file(tmp_path / name / "adapter" / ADAPTER_WEIGHTS) for name in ("alone", "together"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0.05, atol=2e-3)  # Adam makes much of a last bit

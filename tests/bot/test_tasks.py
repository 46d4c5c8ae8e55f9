"""The small jobs: their examples are sound data, and the command runs them on a real model."""

from pathlib import Path

import pytest

from bot import texts_es as es
from bot.tasks import TASKS
from model.engine.params import SamplingParams


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_examples_that_differ_then_the_text(name: str) -> None:
    task = TASKS[name]
    assert task.name == name
    assert name not in {**es.COMMANDS, **es.ADMIN_COMMANDS}
    assert 3 <= len(task.examples) == len({example.text for example in task.examples})
    assert [message.role for message in task.history] == ["user", "assistant"] * len(task.examples)
    assert task.ask("Hola").splitlines()[-1] == "Hola"
    params = task.params(SamplingParams(seed=3, top_p=0.5))
    assert (params.seed, params.top_p, params.temperature) == (3, 0.5, task.temperature)
    assert max(len(example.answer) for example in task.examples) < 4 * task.max_new_tokens + 40


def test_the_command_runs_a_task_and_names_those_there_are(tertulia, tiny: Path) -> None:  # type: ignore[no-untyped-def]
    done = tertulia("task", "sentimiento", "-", "--model", tiny, "--seed", 1, input="Me gusta.\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    wrong = tertulia("task", "cantar", "la la la")
    assert wrong.returncode == 2
    assert "traducir" in wrong.stderr
    assert tertulia("task", "traducir", " ").returncode == 2

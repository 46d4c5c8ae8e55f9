"""The README stays true: its commands, options, settings, files and names exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bot.settings import PREFIX, Settings
from model.hub import MODELS
from model.prompt_formats import FORMATS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LEARNING = (ROOT / "docs/learning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", README + LEARNING, re.DOTALL | re.MULTILINE)
GROUPS = ("adapters", "dialogues", "pretrain", "train")  # of commands
COMMANDS = sorted(
    {
        match.group().split("#")[0].strip()
        for line in "\n".join(BLOCKS).split("\n")
        for match in re.finditer(r"\btertulia [^|]+", line.split("  #")[0])
    }
)


def _help(words: tuple[str, ...]) -> str:
    command = [sys.executable, "-m", "bot.cli", *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_of_the_readme_exists(command: str) -> None:
    words = shlex.split(command)[1:]
    in_group = words[0] in GROUPS and len(words) > 1 and not words[1].startswith("-")
    names = words[: 2 if in_group else 1]
    text = _help(tuple(names))
    for option in (word for word in words if word.startswith("--")):
        assert option in text, f"{command}: no {option}"


def test_every_subcommand_stands_in_the_readme() -> None:
    listed = set(re.findall(r"^\W*([a-z]+)  ", _help(()).partition("Commands")[2], re.MULTILINE))
    assert {"chat", "complete", "eval", "export", "pretrain", "quantize", "verify"} <= listed
    for name in listed:
        assert f"tertulia {name}" in README


@pytest.mark.parametrize("option", re.findall(r"--[a-z][a-z-]+", "\n".join(re.findall(r"  # (.*)", README))))
def test_options_in_the_comments_exist(option: str) -> None:
    assert option in "".join(_help((name,)) for name in ("quantize", "verify", "export", "eval"))


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z]+)", "\n".join(BLOCKS), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_linked_files_and_named_files_exist() -> None:
    names = {name for name in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in name}
    names |= set(re.findall(r"`((?:bot|model|training|docs)/[\w/.]+)`", README))
    names |= {
        f"model/{name}" for name in re.findall(r"`(\w+\.py)`", README) if not (ROOT / "model/kernels" / name).exists()
    }
    assert len(names) > 10
    for name in names:
        assert (ROOT / name).exists(), name


def test_settings_and_models_exist() -> None:
    for name in re.findall(rf"`{PREFIX}(\w+)`", README):
        assert name.lower() in Settings.model_fields, name
    for name in re.findall(r"^\| `(.*?/.*?)`", README, re.MULTILINE):
        assert set(name.split("`, `")) <= set(MODELS)
    assert set(MODELS) - {"embedded"} <= set(re.findall(r"[\w.-]+/[\w.-]+", README))
    for name in FORMATS:
        assert name == "tertulia" or f"`{name}`" in README


def test_the_python_example_runs_on_the_embedded_model() -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    code = re.sub(r'folder = "[^"]+"', 'folder = "embedded"', code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("El sentido de la vida es")

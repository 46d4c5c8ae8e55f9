"""The command as a user meets it: what it prints, and that a failure is one line, exit code 2 and nothing written."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import cli, texts_es
from tests.bot.conftest import Run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
) -> Command:
    """The command line in this process, in an empty folder -> exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name not in environment]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*args: object, input: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(input))
        code = cli.run([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def assert_fails(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.startswith("tertulia: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for word in words:
        assert word in err


# Chat


def test_once_prints_only_the_reply_and_the_same_seed_the_same_one(
    tertulia: Run, command: Command, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"TERTULIA_MODEL={tiny}\n")
    other_process = tertulia("--seed", 4, "--once", "Hola")
    assert (other_process.returncode, other_process.stderr) == (0, "")
    assert other_process.stdout.strip()
    assert command("--seed", 4, "--once", "Hola") == (0, other_process.stdout, "")
    assert command("chat", "--seed", 5, "--once", "Hola")[1] != other_process.stdout


def test_a_pipe_gets_a_line_for_a_line_in_one_conversation(command: Command, tiny: Path) -> None:
    code, out, err = command("chat", "--model", tiny, "--seed", 4, input="Hola\n\nHola\nme quiero morir\n")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert len(lines) == 4
    assert lines[1] == ""
    assert lines[2] != lines[0]  # the second turn knows the first
    assert lines[3] == texts_es.SUICIDE
    assert command("--model", tiny, "--seed", 4, input="Hola\n")[1].splitlines() == lines[:1]


def test_options_reach_the_reply(command: Command, tiny: Path) -> None:
    def words(*options: object) -> str:
        return command("--model", tiny, "--once", "Hola", "--seed", 1, *options)[1]

    greedy = words("--temperature", 0)
    assert words("--top-k", 1) == words("--top-p", 0.001) == greedy
    assert words("--temperature", 0, "--repetition-penalty", 50) != words("--temperature", 0)
    assert len(words("--temperature", 0, "--max-new-tokens", 3)) < len(greedy)
    assert words("--temperature", 0, "--system", "Eres poeta.") != greedy
    assert words("--temperature", 0, "--prompt-format", "plain") != greedy


def test_an_adapter_changes_the_reply(command: Command, tiny: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig

    from model import GPTJ8bitForCausalLM
    from model.lora import attach

    torch.manual_seed(0)
    model = attach(GPTJ8bitForCausalLM.from_pretrained(tiny), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    model.save_pretrained(tmp_path / "adapter")
    base = command("--model", tiny, "--temperature", 0, "--once", "Hola")
    adapted = command("--model", tiny, "--temperature", 0, "--once", "Hola", "--adapter", tmp_path / "adapter")
    assert adapted[0] == 0, adapted[2]
    assert adapted[1] != base[1]
    assert_fails(
        command("--model", tiny, "--once", "Hola", "--adapter", tmp_path / "none"), "give the folder of a PEFT adapter"
    )


def test_complete_continues_a_text_from_argument_or_input(command: Command, tiny: Path) -> None:
    code, out, err = command("complete", "--model", tiny, "--seed", 2, "Había una vez")
    assert (code, err) == (0, "")
    assert out.startswith("Había una vez")
    assert len(out) > len("Había una vez\n")
    assert command("complete", "--model", tiny, "--seed", 2, "-", input="Había una vez\n")[1] == out


def test_ctrl_c_in_a_script_leaves_with_130_and_no_traceback(
    environment: dict[str, str], tiny: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bot.cli", "--model", str(tiny)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment,
        text=True,
        # a test run in the background of a script inherits an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("Hola\n")
    process.stdin.flush()
    process.stdout.readline()
    time.sleep(0.2)  # it waits for the next line now
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (130, "")


def test_output_that_nobody_reads_ends_silently(environment: dict[str, str], tiny: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"yes Hola | '{sys.executable}' -m bot.cli --model '{tiny}' | head -n 2"],
        capture_output=True,
        cwd=tmp_path,
        env=environment,
        timeout=600,
        text=True,
    )
    assert done.stdout.count("\n") == 2
    assert done.stderr == ""


# Checkpoints


def test_eval_prints_a_row_a_file_the_same_for_8_bit_and_its_export(
    command: Command, tiny: Path, tiny_plain: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("El gato duerme en la silla. " * 30, encoding="utf-8")
    (tmp_path / "b.txt").write_text("¿Qué hora es?\nNo lo sé.\n", encoding="utf-8")
    for model in (tiny, tiny_plain):
        code, out, err = command("eval", "a.txt", "b.txt", "--model", model, "--context", 64)
        assert (code, err) == (0, "")
        head, *rows = out.splitlines()
        assert head.split() == ["perplexity", "bits/byte", "tokens", "file"]
        assert [row.split()[-1] for row in rows] == ["a.txt", "b.txt"]
        assert all(1 < float(row.split()[0]) < 1e9 for row in rows)
        folder = tmp_path / f"stock-{model.parent.name}"
        assert command("export", model, folder, "--dtype", "float32")[0] == 0
        code, of_export, err = command("eval", "a.txt", "b.txt", "--model", folder, "--context", 64)
        assert (code, err) == (0, "")
        for row, other in zip(rows, of_export.splitlines()[1:], strict=True):
            # stock GPT-J gives the padding rows their share, so it is a little worse
            assert float(other.split()[1]) == pytest.approx(float(row.split()[1]), rel=0.05)
            assert other.split()[2:] == row.split()[2:]


def test_quantize_verify_export_go_round(command: Command, tiny_plain: Path, tmp_path: Path) -> None:
    stock, native = tmp_path / "stock", tmp_path / "native"
    code, out, _ = command("export", tiny_plain, stock, "--dtype", "float32")
    assert (code, out) == (0, f"wrote {stock} (float32)\n")
    code, out, err = command("quantize", stock, native, "--block-size", 64)
    assert (code, err) == (0, "")
    assert f"tertulia verify {native} --against {stock}" in out
    code, out, err = command("verify", native)
    assert (code, err) == (0, "")
    assert out.startswith(f"{native}: sound\n")
    assert "8-bit, blocks of 64" in out
    code, out, _ = command("verify", native, "--against", stock)
    assert code == 0
    assert "lm_head" in out
    assert float(out.splitlines()[-1].split()[1]) < 0.02  # the largest relative error
    assert command("--model", native, "--once", "Hola", "--seed", 1)[0] == 0


# Failures


def test_bad_commands_and_options_are_one_line(command: Command, tiny: Path) -> None:
    assert_fails(command("chat", "--temperatur", "1"), "No such option", "--temperature")
    assert_fails(command("charla"), "No such command 'charla'")
    assert_fails(command("--top-k", "many"), "valid integer", "--top-k")
    assert_fails(command("verify"), "DIR")
    assert_fails(command("export", tiny, "out", "--dtype", "int4"), "int4", "float16")
    assert_fails(command("--once", "Hola", "--top-p", "3"), "--top-p is '3.0'")
    assert_fails(command("--once", "Hola", "--prompt-format", "chatml"), "--prompt-format is 'chatml'")
    assert_fails(command("--once", "Hola", "--model", ""), "--model is ''")
    assert_fails(command("--once", " "), "--once is empty")
    assert_fails(command("quantize", tiny, "out", "--block-size", "100"), "100")
    assert not Path("out").exists()


def test_a_wrong_setting_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERTULIA_TOP_K", "muchos")
    for args in (["--once", "Hola"], ["complete", "Hola"], ["verify", "x"]):
        assert_fails(command(*args), "TERTULIA_TOP_K is 'muchos': expected an integer")


def test_no_such_folder_and_a_name_without_a_network_are_one_line(tertulia: Run, command: Command) -> None:
    assert_fails(command("--once", "Hola", "--model", "./none"), "./none is not a folder")
    done = tertulia("--once", "Hola", "--model", "alguien/modelo")
    assert_fails((done.returncode, done.stdout, done.stderr), "alguien/modelo", "network")


def test_a_message_longer_than_the_context_is_one_line(command: Command, tiny: Path) -> None:
    long = "palabra " * 500
    assert_fails(command("--model", tiny, "--once", long), "tokens", "shorten it")
    assert_fails(command("complete", "--model", tiny, long), "shorten it")
    code, out, err = command("--model", tiny, "--seed", 1, input=f"Hola\n{long}\nHola\n")
    assert (code, out.count("\n"), err.count("\n")) == (2, 1, 1)


def test_a_damaged_model_is_one_line(command: Command, tiny: Path, tmp_path: Path) -> None:
    def broken(name: str, change: Callable[[bytes], bytes]) -> Path:
        folder = tmp_path / f"broken-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tiny, folder)
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        return folder

    def flip(data: bytes) -> bytes:
        return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]

    cases = {
        "config.json": lambda data: data[:-20],
        "model.safetensors": flip,
        "tokenizer.model": flip,
        "manifest.json": lambda data: b"{}",
        "generation_config.json": lambda data: b"[" + data,
    }
    for name, change in cases.items():
        folder = broken(name, change)
        assert_fails(command("--model", folder, "--once", "Hola"), name)
        assert_fails(command("verify", folder), name)


def test_a_format_that_the_vocabulary_cannot_write_is_one_line(command: Command, tiny_plain: Path) -> None:
    assert_fails(command("--model", tiny_plain, "--once", "Hola", "--prompt-format", "tertulia"), "<|usuario|>")


def test_a_model_that_asks_for_an_unknown_format_is_one_line(command: Command, tiny: Path, tmp_path: Path) -> None:
    from model import checkpoint

    config = json.loads((tiny / "config.json").read_text())
    extra = {name: (tiny / name).read_bytes() for name in ("tokenizer.model", "generation_config.json")}
    folder = tmp_path / "other"
    config["prompt_format"] = "chatml"
    checkpoint.save(folder, config, checkpoint.load_weights(tiny), extra_files=extra)
    assert_fails(command("--model", folder, "--once", "Hola"), "chatml", "--prompt-format")
    assert command("--model", folder, "--once", "Hola", "--prompt-format", "tertulia")[0] == 0


def test_eval_refuses_what_is_no_text_and_what_is_no_model(command: Command, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Un texto.")
    (tmp_path / "latin.txt").write_bytes("año".encode("latin-1"))
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "no-model").mkdir()
    (tmp_path / "no-model" / "config.json").write_text("{}")
    assert_fails(command("eval", "none.txt", "--model", tiny), "cannot read none.txt")
    assert_fails(command("eval", "latin.txt", "--model", tiny), "not UTF-8")
    assert_fails(command("eval", "empty.txt", "--model", tiny), "empty.txt is empty")
    assert_fails(command("eval", "a.txt", "--model", "no-model"), "no-model cannot be read")
    assert_fails(command("eval", "a.txt", "--model", tiny, "--context", 9999), "--context is 9999", "256")
    assert_fails(command("eval", "a.txt", "--model", tiny, "--context", 8, "--stride", 8), "--stride is 8")


def test_pretrain_steps_say_which_step_is_missing(command: Command, tmp_path: Path) -> None:
    assert_fails(command("pretrain", "export", tmp_path / "out", "--work", tmp_path / "none"), "earlier step")
    assert not (tmp_path / "out").exists()


# What it costs to ask for help


def test_help_and_settings_import_nothing_heavy(environment: dict[str, str]) -> None:
    heavy = (
        "torch",
        "transformers",
        "sentencepiece",
        "tokenizers",
        "peft",
        "prompt_toolkit",
        "pydantic_settings",
        "numpy",
    )
    code = (
        "import sys; from bot import cli; code = cli.run(sys.argv[1:]); "
        f"sys.exit(' '.join(name for name in {heavy} if name in sys.modules) or code)"
    )
    for args in (["--help"], ["chat", "--help"], ["eval", "--help"], ["pretrain", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *args], capture_output=True, text=True, env=environment, timeout=600
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    code = "import sys, bot.settings, bot.terminal, bot.talk, bot.plain; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=600).returncode == 0


def test_every_command_and_option_has_a_help_text() -> None:
    from typer.main import get_command

    def walk(group: object, path: str) -> None:
        for parameter in group.params:  # type: ignore[attr-defined]
            assert getattr(parameter, "help", None), f"{path} {parameter.name}"
        assert group.help, path  # type: ignore[attr-defined]
        for name, child in getattr(group, "commands", {}).items():
            walk(child, f"{path} {name}")

    root = get_command(cli.app)
    walk(root, "tertulia")
    assert set(root.commands) == {  # type: ignore[attr-defined]
        *("chat", "bot", "task", "complete", "dialogues", "eval", "quantize", "verify", "export", "pretrain"),
        *("adapters", "train"),
    }

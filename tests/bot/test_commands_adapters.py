"""`tertulia adapters` as an operator meets it, on a real registry with real adapters."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bot.tiny_adapters import register
from tests.training.conftest import FACTS
from training.dialogues import Chat, DialogueLog, sqlite_url
from training.registry import Registry
from training.registry.entry import PEFT_FILES

ROOT = Path(__file__).parents[2]
Command = Callable[..., tuple[int, str, str]]
Register = Callable[..., str]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def command(
    state: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """command("list"): `tertulia adapters list` in this process -> exit code, output, errors."""
    from bot import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERTULIA_STATE_DIR", str(state))
    monkeypatch.setenv("TERTULIA_MODEL", str(tiny))
    monkeypatch.setenv("TERTULIA_THREADS", "1")

    def run(*args: object) -> tuple[int, str, str]:
        code = cli.run(["adapters", *map(str, args)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def registry(state: Path) -> Registry:
    return Registry(state / "adapters")


@pytest.fixture
def make(registry: Registry, tiny: Path, tmp_path: Path) -> Register:
    def put(name: str, **lineage: object) -> str:
        return register(registry, tiny, tmp_path / "made", name, **lineage)

    return put


def test_list_of_nothing_says_how_to_begin_and_makes_nothing(command: Command, state: Path) -> None:
    assert command("list") == (0, "no adapters yet: tertulia train makes one\n", "")
    assert not state.exists()


def test_list_shows_what_serves_is_tried_refused_and_taken_back(
    command: Command, make: Register, registry: Registry, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.mkdir()
    with DialogueLog(sqlite_url(state / "dialogues.db")) as log:
        log.set_consent(7, True)
        rows = log.append_turn(Chat("telegram", 7), 7, "hola", "¡Hola!", FACTS)
        make("a", row_ids=rows)
        make("b")
        make("c", verdict={"promote": False, "reasons": ["a tie"]})
        assert command("promote", "a") == (0, "in service: a\n", "")
        assert command("promote", "b", "--share", 0.25) == (0, "in service: a, and b for 25% of the chats\n", "")
        lines = command("list")[1].splitlines()
        assert [line[:3] for line in lines] == ["* a", "% b", "  c"]
        assert lines[0].endswith("2 rows  in service")
        assert lines[1].endswith("on trial in 25% of the chats")
        assert lines[2].endswith("refused by the gate")
        log.forget(7)
    assert command("list")[1].splitlines()[0].endswith("in service; FORGET: 2 rows were taken back")
    monkeypatch.setenv("TERTULIA_RETIRE_FORGOTTEN", "true")
    assert "  a " in (out := command("list")[1])
    assert "RETIRED: 2 rows were taken back" in out
    assert registry.serving().adapter is None


def test_forgetting_a_person_on_the_command_line_says_which_adapters_saw_them(
    make: Register, state: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    from bot import cli

    state.mkdir()
    with DialogueLog(sqlite_url(state / "dialogues.db")) as log:
        log.set_consent(7, True)
        make("a", row_ids=log.append_turn(Chat("telegram", 7), 7, "hola", "¡Hola!", FACTS))
    assert cli.run(["dialogues", "forget", "7", "--yes"]) == 0
    assert "the adapter a was trained on some of them" in capsys.readouterr().out


def test_list_works_without_the_log(command: Command, make: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    make("a")
    monkeypatch.setenv("DATABASE_URL", "mysql://nowhere")
    code, out, err = command("list")
    assert code == 0
    assert "a " in out
    assert err.startswith("tertulia: what people took back is not known: DATABASE_URL")


def test_show_prints_lineage_verdict_and_what_was_done(command: Command, make: Register) -> None:
    make("a")
    make(
        "b",
        parent="a",
        row_ids=(1, 2, 3),
        hyper_parameters={"rank": 8, "learning_rate": 2e-4},
        metrics={"held_out": {"loss": 1.23456}},
        verdict={"promote": False, "reasons": ["a tie on the held-out people"]},
    )
    command("promote", "b", "--force")
    code, out, err = command("show", "b")
    assert (code, err) == (0, "")
    for words in (
        "b: in service; refused by the gate; FORGET: 3 rows",  # the log does not have these rows
        "parent       a",
        "rank         8",
        "learning_rate 0.0002",
        "held_out.loss 1.235",
        "verdict      refuse",
        "a tie on the held-out people",
        "promote by force: a tie on the held-out people",
    ):
        assert words in out
    assert command("show", "zzz")[::2] == (2, "tertulia: there is no adapter zzz: see `tertulia adapters list`\n")


def test_compare_shows_differences_and_replies_side_by_side(command: Command, make: Register) -> None:
    make("a", metrics={"loss": 1.5}, hyper_parameters={"rank": 4, "epochs": 2})
    make("b", metrics={"loss": 1.25}, hyper_parameters={"rank": 4, "epochs": 3})
    code, out, err = command("compare", "a", "b", "--prompts", 2)
    assert (code, err) == (0, "")
    table, *answered = out.split("\n\n> ")
    assert [line.split() for line in table.splitlines()] == [["a", "b"], ["epochs", "2", "3"], ["loss", "1.5", "1.25"]]
    assert len(answered) == 2
    for one in answered:
        _, of_a, of_b = one.rstrip("\n").split("\n")
        assert of_a.startswith("  a: ")
        assert of_b.startswith("  b: ")
        assert of_a[5:] != of_b[5:]
    assert "base" in command("compare", "base", "b", "--prompts", 0)[1]


def test_promotions_go_back_and_a_deleted_one_is_gone(command: Command, make: Register) -> None:
    for name in ("a", "b"):
        make(name)
        command("promote", name)
    assert command("rollback") == (0, "in service: a\n", "")
    assert command("delete", "b", "--yes") == (0, "deleted b\n", "")
    assert command("rollback") == (0, "in service: the bare base\n", "")
    for args, words in (
        (("rollback",), "nothing to go back to"),
        (("delete", "b", "--yes"), "there is no adapter b"),
        (("promote", "b"), "there is no adapter b"),
        (("promote", "a", "--share", 2), "the share is 2: expected a number above 0 and below 1"),
    ):
        code, out, err = command(*args)
        assert (code, out) == (2, "")
        assert words in err
        assert err.count("\n") == 1


def test_an_adapter_of_another_base_is_neither_promoted_nor_merged(
    command: Command, make: Register, registry: Registry, tmp_path: Path
) -> None:
    make("strange", base_hash="5" * 64)
    for args in (("promote", "strange"), ("export", "strange", tmp_path / "out", "--merged")):
        code, out, err = command(*args)
        assert (code, out) == (2, "")
        assert "made for the base 555555555555" in err
    assert registry.serving().serial == 0
    assert not (tmp_path / "out").exists()


def test_export_writes_plain_peft_files_or_a_merged_stock_model(
    command: Command, make: Register, registry: Registry, tiny: Path, tmp_path: Path
) -> None:
    """Merged, attached here, and attached by stock PEFT to the stock model: the same logits."""
    import torch
    from peft import PeftModel
    from transformers import GPTJForCausalLM

    from bot import cli
    from model import GPTJ8bitForCausalLM
    from model.lora import load_adapter

    make("a")
    assert command("export", "a", tmp_path / "peft")[0] == 0
    assert sorted(path.name for path in (tmp_path / "peft").iterdir()) == sorted(PEFT_FILES)
    code, out, _ = command("export", "a", tmp_path / "merged", "--merged", "--dtype", "float32")
    assert (code, out) == (0, f"wrote {tmp_path / 'merged'} (float32)\n")
    assert cli.run(["export", str(tiny), str(tmp_path / "base"), "--dtype", "float32"]) == 0
    ids = torch.randint(4, 900, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = load_adapter(GPTJ8bitForCausalLM.from_pretrained(tiny), tmp_path / "peft")(ids).logits
        stock = PeftModel.from_pretrained(GPTJForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "peft")
        attached = stock(ids).logits
        merged = GPTJForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
    real = slice(0, 900)  # ours gives padding rows no probability
    torch.testing.assert_close(merged[..., real], attached[..., real], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(merged[..., real], ours[..., real], rtol=1e-3, atol=1e-3)
    code, _, err = command("export", "a", tmp_path / "merged", "--merged")
    assert code == 2
    assert "not empty" in err


def test_a_chat_that_runs_takes_up_a_promotion(
    make: Register, registry: Registry, state: Path, tiny: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Through a pipe, as the terminal chat: line one is answered by the base, line two by the adapter."""
    from bot.loading import load
    from bot.settings import Settings
    from bot.talk import Talk

    make("a")
    settings = Settings(_env_file=None, model=str(tiny), state_dir=tmp_path / "other", temperature=0.0, threads=1)
    pinned = settings.model_copy(update={"adapter": registry.root / "a"})
    talk = Talk((loaded := load(settings)).service, loaded.params)
    expected = ["".join(talk.say("Hola"))]
    talk.service = load(pinned).service
    expected.append("".join(talk.say("¿Qué tal?")))
    chat = subprocess.Popen(
        [sys.executable, "-m", "bot.cli", "chat", "--model", tiny, "--temperature", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=environment | {"TERTULIA_STATE_DIR": str(state)},
        text=True,
    )
    assert chat.stdin is not None
    assert chat.stdout is not None
    said = []
    for line in ("Hola", "¿Qué tal?"):
        chat.stdin.write(line + "\n")
        chat.stdin.flush()
        said.append(chat.stdout.readline().strip())
        registry.promote("a")
        time.sleep(1.1)  # it looks every second
    chat.stdin.close()
    assert chat.wait(60) == 0
    chat.stdout.close()
    assert said == [" ".join(text.split("\n")) for text in expected]

"""`tertulia dialogues` as the operator meets it, on a real file."""

import io
import json
import os
import random
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot import cli
from tests.bot.conftest import Run
from training.dialogues import Chat, DialogueLog, ReplyFacts, sqlite_url

FACTS = ReplyFacts("embedded", None, 12, 5, 0.25, 1.5, {"temperature": 0.8, "seed": 7}, "stop")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "dialogues.db"


@pytest.fixture
def command(
    tmp_path: Path,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
) -> Command:
    """The command line in this process, in an empty folder -> exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name not in environment]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERTULIA_STATE_DIR", str(file.parent))
    monkeypatch.delenv("DATABASE_URL", raising=False)

    def run(*args: object, input: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(input))
        code = cli.run(["dialogues", *map(str, args)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def spoken(file: Path) -> Path:
    """A log with a conversation of Ana's, who consents, and one of Luis's, who was not asked."""
    with DialogueLog(sqlite_url(file)) as log:
        log.set_consent(77, True)
        ana, group = Chat("telegram", 77), Chat("telegram", -5, 3)
        _, reply = log.append_turn(ana, 77, "hola \x1b[2J", "buenas ñ", FACTS)
        log.rate(ana, reply, 77, 1)
        log.correct(ana, reply, 77, "muy buenas")
        log.new_conversation(ana)
        log.append_turn(group, 88, "soy Luis", "hola, Luis", FACTS)
    return file


def lines(result: tuple[int, str, str]) -> list[dict[str, Any]]:
    code, out, err = result
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def assert_fails(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("tertulia: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_a_log_that_does_not_exist_yet_is_empty(command: Command) -> None:
    assert command("list") == (0, "", "")
    assert command("export") == (0, "", "")
    code, out, err = command("stats")
    assert (code, err) == (0, "")
    assert "conversations" in out


def test_conversations_are_listed_newest_first(command: Command, spoken: Path) -> None:
    code, out, err = command("list")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first.split()[:2] == ["2", "telegram/-5/3"]
    assert first.split()[4:] == ["open", "2", "messages"]
    assert second.split()[:2] == ["1", "telegram/77"]
    assert second.split()[4:] == ["closed", "2", "messages"]
    assert command("list", "--limit", "1")[1].splitlines() == [first]


def test_a_conversation_is_shown_with_what_was_thought_of_it(command: Command, spoken: Path) -> None:
    code, out, err = command("show", 1)
    assert (code, err) == (0, "")
    assert [line[17:] for line in out.splitlines()[:2]] == ["user: hola [2J", "assistant 👍: buenas ñ"]
    assert "\x1b" not in out, "a message cannot move the cursor"
    assert out.splitlines()[2] == "    better: muy buenas"
    assert_fails(command("show", 9), "there is no conversation 9", "tertulia dialogues list")


def test_an_export_holds_what_people_consent_to(command: Command, spoken: Path) -> None:
    (one,) = lines(command("export"))
    assert [message["content"] for message in one["messages"]] == ["hola \x1b[2J", "buenas ñ"]
    assert one["messages"][1]["corrections"] == ["muy buenas"]
    everything = lines(command("export", "--all"))
    assert [message["content"] for message in everything[1]["messages"]] == ["soy Luis", "hola, Luis"]
    (of_luis,) = lines(command("export", "--user", 88))
    assert [message["text"] for message in of_luis["messages"]] == ["soy Luis", "hola, Luis"]


def test_an_export_to_a_file_is_there_whole_and_its_owners(command: Command, spoken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert command("export", out) == (0, "", "")
    assert out.read_text(encoding="utf-8") == command("export")[1]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert_fails(command("export", tmp_path / "no" / "out.jsonl"), "No such file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "state"]


def test_what_is_exported_can_be_imported_elsewhere(command: Command, spoken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    command("export", "--all", out)
    spoken.unlink()
    assert command("import", out, "--consent") == (0, "imported 2 dialogues with 4 messages\n", "")
    again = "imported 0 dialogues with 0 messages\n4 messages were there already\n"
    assert command("import", out, "--consent") == (0, again, "")
    assert [len(one["messages"]) for one in lines(command("export"))] == [2, 2]


def test_an_export_of_telegram_desktop_is_imported(command: Command, tmp_path: Path) -> None:
    at = {"type": "message", "date_unixtime": "1768035600"}
    messages = [
        {**at, "id": 1, "from": "Ana", "from_id": "user77", "text": "hola"},
        {**at, "id": 2, "from": "Luis", "from_id": "user88", "text": ["bue", {"type": "bold", "text": "nas"}]},
    ]
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"name": "Luis", "type": "personal_chat", "id": 88, "messages": messages}))
    assert_fails(command("import", path, "--consent"), "--assistant", "77 (Ana: 1), 88 (Luis: 1)")
    assert command("import", path, "--consent", "--assistant", 88)[:2] == (0, "imported 1 dialogues with 2 messages\n")
    (one,) = lines(command("export"))
    assert [(m["role"], m["content"]) for m in one["messages"]] == [("user", "hola"), ("assistant", "buenas")]


def test_an_import_wants_consent_and_a_file_it_knows(command: Command, tmp_path: Path, file: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "hola"}]}\n{"messages": 5}\n')
    assert_fails(command("import", path), "--consent")
    assert_fails(command("import", path, "--consent"), "dialogue 2: expected")
    assert_fails(command("import", path, "--consent", "--assistant", 5), "--assistant is for an export of Telegram")
    assert_fails(command("import", tmp_path / "none", "--consent"), "No such file")
    assert not file.exists(), "nothing of a file that is not understood is stored"


def test_forgetting_asks_first(command: Command, spoken: Path) -> None:
    code, out, err = command("forget", 77, input="n\n")
    assert code == 130
    assert "for good" in out + err
    assert b"buenas" in spoken.read_bytes()
    code, out, err = command("forget", 77, "--yes")
    assert (code, err) == (0, "")
    assert out.startswith("erased ")
    for path in spoken.parent.iterdir():
        assert b"buenas" not in path.read_bytes()
    assert [one["chat_id"] for one in lines(command("export", "--all"))] == [-5]


def test_a_damaged_log_is_told_of_and_set_aside(command: Command, spoken: Path) -> None:
    spoken.write_bytes(random.Random(1).randbytes(spoken.stat().st_size))
    code, out, err = command("list")
    assert (code, out) == (0, "")
    assert "the log was damaged: it is set aside as" in err
    assert command("list") == (0, "", "")


def test_a_wrong_url_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://u:secret@host/db")
    result = command("list")
    assert_fails(result, "DATABASE_URL begins with 'mysql'", "expected sqlite:////")
    assert "secret" not in result[2]


def test_the_command_runs_as_a_program(tertulia: Run, spoken: Path) -> None:
    done = tertulia("dialogues", "export", TERTULIA_STATE_DIR=str(spoken.parent))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["messages"][1]["content"] == "buenas ñ"

"""Files that are not what they should be: each fault is named with its line, and nothing hostile holds a run up."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.curation.files import MAX_LINE_BYTES
from training.curation.sources import read_file
from training.errors import DataError

GOOD = json.dumps({"prompt": "¿qué tal?", "completion": "muy bien"}, ensure_ascii=False)


def refused(path: Path, data: bytes | str) -> str:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(DataError) as caught:
        read_file(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 500
    return message


def with_messages(*items: object) -> str:
    return f"{GOOD}\n{json.dumps({'messages': list(items)})}\n"


USER, REPLY = {"role": "user", "content": "hola"}, {"role": "assistant", "content": "buenas"}
BEGINNINGS = st.sampled_from(
    [
        b"",
        b"prompt,completion\n",
        b'prompt;completion\n"a";',
        b"a<|endoftext|>",
        b"{",
        b'{"prompt": "',
        b'{"messages": [{"role": "user", "content": "',
        b'{"prompt": "a", "completion": "b", "user": ',
    ]
)
JSON_FAULTS = [
    (f"{GOOD}\n\n{{bad\n", "line 3 is not JSON"),
    (f"{GOOD}\n[1, 2]\n", "line 2: expected"),
    (f"{GOOD}\n3\n", "line 2: expected"),
    (f"{GOOD}\n{{}}\n", "line 2: prompt is missing"),
    (f'{GOOD}\n{{"prompt": "a", "completion": null}}\n', "line 2: completion is missing or no text"),
    (f'{GOOD}\n{{"prompt": "a", "completion": "b", "user": [1]}}\n', "line 2: user is neither"),
    (f'{GOOD}\n{{"messages": []}}\n', "line 2: messages is no list, or empty"),
    (with_messages("hola"), "line 2, message 1: expected an object"),
    (with_messages(USER, {"role": "tool", "content": "x"}), "line 2, message 2: role is 'tool'"),
    (with_messages(USER, {"role": "assistant"}), "line 2, message 2: content is missing"),
    (with_messages(USER, {"role": "system", "content": "x"}), "line 2, message 2: a system message is the first"),
    (with_messages(USER, REPLY, REPLY), "line 2, message 3: a reply after a reply"),
    (with_messages(USER, {**REPLY, "rating": "mal"}), "line 2, message 2: rating is no whole number"),
    (with_messages(USER, {**REPLY, "corrections": [3]}), "line 2, message 2: corrections is no list of texts"),
    (f"{GOOD}\n{'[' * 100_000}\n", "line 2 is nested too deeply"),
    (f'{GOOD}\n{{"prompt": {"1" * 6000}, "completion": "b"}}\n', "line 2 is not JSON"),
]


@pytest.mark.parametrize(("text", "words"), JSON_FAULTS)
def test_a_fault_in_json_lines_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path / "a.jsonl", text)


CSV_FAULTS = [
    ("prompt,completion\na,b\nc\n", "line 3: 1 fields, the header has 2"),
    ("prompt,completion\nuno, dos,tres\n", "line 2: 3 fields"),
    ('prompt,completion\na,b\n"sin cerrar,c\nd,e\n', "line 3: the row that begins here is no CSV"),
    ('prompt,completion\n"a"b,c\n', "line 2: the row that begins here is no CSV"),
    ("prompt,completion,nota\na,b,c\n", "line 1: the column 'nota' is not known"),
    ("prompt,completion,prompt\na,b,c\n", "line 1: a column is there twice"),
    ("prompt,completion\ra,b\rc,d\r", "line 1"),
]


@pytest.mark.parametrize(("text", "words"), CSV_FAULTS)
def test_a_fault_in_csv_is_named_with_the_line_where_its_row_begins(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path / "a.csv", text)


def test_csv_rows_may_hold_line_ends_quotes_and_people(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        'prompt,completion,user,system\n"uno\ndos","di ""tres"", ya",ana,sé breve\n\ncuatro,cinco,,\nseis,siete,ana,\n',
        encoding="utf-8",
    )
    one, two, three = read_file(path).examples
    assert [message.content for message in one.messages] == ["sé breve", "uno\ndos", 'di "tres", ya']
    assert one.user == three.user != two.user
    assert two.user == "file:a.csv:5"
    assert "ana" not in one.user


@pytest.mark.parametrize(
    ("begin", "where"),
    [(f"{GOOD}\n", "line 2"), ("prompt,completion\n", "line 2"), ("hola<|endoftext|>\n", "line 2"), ("", "line 1")],
)
def test_a_line_of_ten_megabytes_is_refused_without_being_held(tmp_path: Path, begin: str, where: str) -> None:
    message = refused(tmp_path / "a", begin.encode() + b'{"prompt": "' + b"a" * 10_000_000)
    assert f"{where} has more than {MAX_LINE_BYTES:,} bytes" in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            f"{GOOD}\n".encode() + '{"prompt": "año", "completion": "b"}'.encode("latin-1"),
            "line 2 is not UTF-8 text (byte 0xF1 at 14)",
        ),
        (GOOD.encode("utf-16"), "line 1 is UTF-16 text"),
        ("prompt;completion\naño;sí\n".encode("cp1252"), "line 2 is not UTF-8"),
        ("érase<|endoftext|>\n".encode() + b"\xff<|endoftext|>", "line 2 is not UTF-8"),
        (b"\x00\x01\x02\x80\x04", "line 1 is not UTF-8"),
    ],
)
def test_another_encoding_is_named_with_line_and_byte(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in refused(tmp_path / "a", data)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "is no file"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(DataError, match=words):
            read_file(path)


def test_nul_and_lone_surrogates_become_the_replacement_character(tmp_path: Path) -> None:
    """Neither can be stored nor encoded: a run would end at the snapshot, hours later."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"prompt": "a\\u0000b\\ud800", "completion": "c\\udfff"}\n{"prompt": "d\x00", "completion": "e"}\n'
    )
    one, two = read_file(path).examples
    assert [message.content for message in (*one.messages, *two.messages)] == [
        "a\ufffdb\ufffd",
        "c\ufffd",
        "d\ufffd",
        "e",
    ]


ANYTHING = st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=ANYTHING, begin=BEGINNINGS)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path: Path, data: bytes, begin: bytes) -> None:
    """Any other error than DataError would end a run with a traceback instead of the file's name."""
    path = tmp_path / "fuzz"
    path.write_bytes(begin + data)
    with suppress(DataError):
        for example in read_file(path).examples:
            "".join(example.texts).encode()


def test_messages_nobody_answered_join_the_next_or_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    greeting = {"role": "assistant", "content": "¡hola!"}
    path.write_text(
        with_messages(greeting, USER, {"role": "user", "content": "¿estás?"}, REPLY, USER), encoding="utf-8"
    )
    example = read_file(path).examples[1]
    assert [message.content for message in example.messages] == ["hola\n¿estás?", "buenas"]


def test_documents_end_at_markers_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("uno<|endoftext|>dos\n\n sigue <|endoftext|>\n<|endoftext|>\n\ntres\n", encoding="utf-8")
    assert [(e.document, e.user) for e in read_file(path).examples] == [
        ("uno", "file:a.txt:1"),
        ("dos\n\n sigue ", "file:a.txt:1"),
        ("tres", "file:a.txt:6"),
    ]


def test_a_document_without_end_is_refused_with_the_line_where_it_begins(tmp_path: Path) -> None:
    assert "line 2: the example that begins here" in refused(tmp_path / "a", "a<|endoftext|>\n" + "palabra\n" * 200_000)

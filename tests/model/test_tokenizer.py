"""The tokenizer: both kinds against their own libraries, hostile text and files, the stream against the whole."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.errors import ModelError, TokenizerError
from model.tokenizer import StreamDecoder, Tokenizer

SPECIALS = ["<|endoftext|>", "<|usuario|>", "<|tertulia|>", "<|sistema|>", "<|fin|>", "<s>", "</s>", "<unk>", "<0x0A>"]
# Every character, and often the pieces of a special token: what a forger would send.
texts = st.lists(st.one_of(st.text(max_size=8), st.sampled_from([*SPECIALS, " ", "\n", "ñ", "é", "👨‍👩‍👧", "🇪🇸"]))).map(
    "".join
)
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)


@pytest.fixture(params=["spm", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    return Tokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def vocab_only_folder(bpe_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As repositories without tokenizer.json have it, with the misleading 1024 beside it."""
    folder = tmp_path_factory.mktemp("vocab_only")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(bpe_folder / name, folder / name)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1024}', encoding="utf-8")
    return folder


@relaxed
@given(text=texts)
def test_no_text_ever_yields_a_special_id_and_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    """Bug prevented: a user who types <|endoftext|> or <|fin|> ends the turn and speaks as somebody else."""
    ids = tokenizer.encode(text)
    assert not tokenizer.special_ids & set(ids)
    assert all(0 <= i < tokenizer.num_tokens for i in ids)
    expected = text.replace("\u2581", " ") if tokenizer.files()[0].name == "tokenizer.model" else text
    assert tokenizer.decode(ids) == expected


def test_a_lone_surrogate_is_replaced_instead_of_crashing_the_library(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud83db")) == "a\ufffdb"
    assert tokenizer.encode("") == []
    assert tokenizer.decode(tokenizer.encode("nul \x00 fin")) == "nul \x00 fin"


@relaxed
@given(data=st.data())
def test_streamed_pieces_joined_equal_decode_for_any_ids(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Bug prevented: half an accent, a doubled or lost leading space, U+FFFD where a character was still coming."""
    ids = data.draw(st.lists(st.integers(0, tokenizer.num_tokens - 1)))
    decoder = StreamDecoder(tokenizer)
    assert "".join([decoder.push(i) for i in ids] + [decoder.flush()]) == tokenizer.decode(ids)


@relaxed
@given(text=texts)
def test_a_stream_of_text_is_always_a_prefix_of_it(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    whole = tokenizer.decode(ids)
    decoder, said = StreamDecoder(tokenizer), ""
    for token_id in ids:
        said += decoder.push(token_id)
        assert whole.startswith(said)
    assert said == whole
    assert decoder.flush() == ""


def test_an_emoji_comes_out_whole_and_a_broken_one_as_replacement(tokenizer: Tokenizer) -> None:
    byte_ids = {tokenizer.token_bytes(i): i for i in range(tokenizer.num_tokens - 1, -1, -1)}
    emoji = [byte_ids[bytes([b])] for b in "😀".encode()]
    decoder = StreamDecoder(tokenizer)
    assert [decoder.push(i) for i in emoji] == ["", "", "", "😀"]
    decoder = StreamDecoder(tokenizer)
    assert [decoder.push(i) for i in (*emoji[:2], byte_ids[b"a"])] == ["", "", "\ufffda"]
    assert [decoder.push(i) for i in emoji[:3]] == ["", "", ""]
    assert decoder.flush() == "\ufffd"


def test_sentencepiece_ids_and_text_are_the_librarys_own(spm_folder: Path) -> None:
    import sentencepiece

    library = sentencepiece.SentencePieceProcessor(model_file=str(spm_folder / "tokenizer.model"))
    tokenizer = Tokenizer.from_pretrained(spm_folder)
    for text in ["El sentido de la vida es", "  dos espacios", "línea\n\notra\t¿sí? 2+2=4", "😀", "a  b "]:
        assert tokenizer.encode(text) == library.encode(text)
        assert tokenizer.decode(library.encode(text)) == library.decode(library.encode(text)) == text
    assert tokenizer.num_tokens == len(library) == len(tokenizer)


@pytest.mark.parametrize("kind", ["json", "vocab_only"])
def test_bpe_ids_are_those_of_stock_gpt2(kind: str, bpe_folder: Path, vocab_only_folder: Path) -> None:
    """Bug prevented: the published folders without tokenizer.json give other ids, or none."""
    from transformers import GPT2TokenizerFast

    stock = GPT2TokenizerFast.from_pretrained(bpe_folder)
    tokenizer = Tokenizer.from_pretrained(bpe_folder if kind == "json" else vocab_only_folder)
    for text in [
        "El sentido de la vida es",
        " ¿Qué tal?\n\n### Instrucción:\n",
        "   tres espacios",
        "2+2=4 😀 ñandú's",
    ]:
        assert tokenizer.encode(text) == stock.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.eos_id == tokenizer.pad_id == tokenizer.bos_id == stock.eos_token_id
    assert stock.encode("<|endoftext|>") == [tokenizer.eos_id]  # the trap: there it is matched in text
    assert len(tokenizer.encode("<|endoftext|>")) > 1


def test_many_threads_share_one_tokenizer(tokenizer: Tokenizer) -> None:
    """Bug prevented: a setting toggled around a call lets another thread's text become a special id."""
    forged = [f"{i} <|endoftext|> <|fin|> {'ñ😀' * i}" for i in range(64)]
    alone = [tokenizer.encode(text) for text in forged]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(tokenizer.encode, forged)) == alone


def test_special_ids_are_reached_by_name_and_skipped_in_text(spm_folder: Path, bpe_folder: Path) -> None:
    spm, bpe = Tokenizer.from_pretrained(spm_folder), Tokenizer.from_pretrained(bpe_folder)
    names = ["<|usuario|>", "<|tertulia|>", "<|sistema|>", "<|fin|>"]
    assert len({spm.special_id(name) for name in names} & spm.special_ids) == 4
    assert spm.eos_id == spm.special_id("<|fin|>")
    assert bpe.special_id("<|endoftext|>") == bpe.eos_id
    ids = [spm.special_id("<|usuario|>"), *spm.encode("hola"), spm.eos_id]
    assert spm.decode(ids) == "hola"
    assert spm.decode(ids, skip_special_tokens=False) == "<|usuario|> hola<|fin|>"
    with pytest.raises(TokenizerError, match=r"no special token '<\|usuario\|>' .*<\|endoftext\|>"):
        bpe.special_id("<|usuario|>")
    for wrong in (-1, spm.num_tokens):
        with pytest.raises(TokenizerError, match=f"token id {wrong} is not in the vocabulary"):
            spm.decode([wrong])


def test_the_face_known_from_transformers(tokenizer: Tokenizer) -> None:
    import torch

    one = tokenizer("El sentido de la vida es", return_tensors="pt")
    assert one["input_ids"].shape == one["attention_mask"].shape == (1, len(one["input_ids"][0]))
    assert one["input_ids"].dtype == torch.int64
    assert tokenizer.decode(one["input_ids"][0]) == "El sentido de la vida es"
    assert tokenizer("El sentido de la vida es")["input_ids"] == one["input_ids"][0].tolist()
    two = tokenizer(["Hola", "El sentido de la vida es"], return_tensors="pt")
    width = two["input_ids"].shape[1]
    short = tokenizer("Hola")["input_ids"]
    assert two["input_ids"][0].tolist() == [tokenizer.pad_token_id] * (width - len(short)) + short
    assert two["attention_mask"][0].tolist() == [0] * (width - len(short)) + [1] * len(short)
    assert tokenizer(["Hola"]) == {"input_ids": [short], "attention_mask": [[1] * len(short)]}
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id) == (tokenizer.eos_id, tokenizer.bos_id)
    with pytest.raises(TypeError, match="decode each row"):
        tokenizer.decode(two["input_ids"])
    with pytest.raises(ValueError, match="return_tensors is 'np'"):
        tokenizer("x", return_tensors="np")


def test_a_document_begins_with_bos_only_where_the_vocabulary_has_its_own(spm_folder: Path, bpe_folder: Path) -> None:
    spm, bpe = Tokenizer.from_pretrained(spm_folder), Tokenizer.from_pretrained(bpe_folder)
    assert spm.encode_document("Érase") == [spm.bos_id, *spm.encode("Érase")]
    assert bpe.encode_document("Érase") == bpe.encode("Érase")
    assert bpe.encode_document("") == [bpe.eos_id]  # nothing to continue: the model still needs one id


def test_saved_files_read_back_the_same_and_saving_in_place_is_harmless(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "new")
    again = Tokenizer.from_pretrained(tmp_path / "new")
    assert again.encode("¿Qué tal, ñandú?") == tokenizer.encode("¿Qué tal, ñandú?")
    again.save_pretrained(tmp_path / "new")
    assert [p.read_bytes() for p in again.files()] == [p.read_bytes() for p in tokenizer.files()]


def test_padding_rows_of_gptj_are_not_tokens(bpe_folder: Path, tmp_path: Path) -> None:
    """GPT-J's tokenizer.json adds <|extratoken_1|>...: rows without meaning, which text must not reach either."""
    spec = json.loads((bpe_folder / "tokenizer.json").read_text(encoding="utf-8"))
    extra = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    spec["added_tokens"].append({"id": 1000, "content": "<|extratoken_1|>", **extra})
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    assert tokenizer.num_tokens == 1000
    assert tokenizer.decode(tokenizer.encode("<|extratoken_1|>")) == "<|extratoken_1|>"


def test_what_is_missing_is_named_with_the_next_step(tmp_path: Path, bpe_folder: Path) -> None:
    with pytest.raises(ModelError, match="not a folder"):
        Tokenizer.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json and vocab\.json .* missing; copy tokenizer\.json"):
        Tokenizer.from_pretrained(tmp_path)
    shutil.copy(bpe_folder / "vocab.json", tmp_path)
    with pytest.raises(TokenizerError, match=r": merges.txt is missing; copy"):
        Tokenizer.from_pretrained(tmp_path)


def _broken_files(bpe_folder: Path) -> dict[str, dict[str, bytes]]:
    vocab = json.loads((bpe_folder / "vocab.json").read_text(encoding="utf-8"))
    spec = json.loads((bpe_folder / "tokenizer.json").read_text(encoding="utf-8"))
    merges = (bpe_folder / "merges.txt").read_bytes()
    no_end = {token: i for token, i in vocab.items() if i != 999}
    no_byte = {("Ġx" * 9 if token == "a" else token): i for token, i in vocab.items()}

    def pair(vocab: object, merges: bytes = merges) -> dict[str, bytes]:
        return {"vocab.json": json.dumps(vocab).encode(), "merges.txt": merges}

    return {
        "empty sentencepiece": {"tokenizer.model": b""},
        "not a sentencepiece": {"tokenizer.model": b"garbage" * 20},
        "not JSON": {"tokenizer.json": b"{"},
        "object, found list": {"tokenizer.json": b"[]"},
        "'utf-8' codec": {"tokenizer.json": b"\xff\xfe"},
        "recursion": {"tokenizer.json": b"[" * 100_000},
        "model None": {"tokenizer.json": b"{}"},
        "splitter None": {"tokenizer.json": b'{"model": {"type": "BPE"}, "pre_tokenizer": []}'},
        "expected a vocabulary": {"tokenizer.json": json.dumps(spec | {"model": {"type": "BPE"}}).encode()},
        "no list of merges": {"tokenizer.json": json.dumps(spec | {"model": {"type": "BPE", "vocab": vocab}}).encode()},
        "its added tokens": {"tokenizer.json": json.dumps(spec | {"added_tokens": [7]}).encode()},
        "expected GPT-2's BPE": {"tokenizer.json": json.dumps(spec | {"model": {"type": "Unigram"}}).encode()},
        "no normalizer": {"tokenizer.json": json.dumps(spec | {"normalizer": {"type": "NFC"}}).encode()},
        "add_prefix_space": {
            "tokenizer.json": json.dumps(
                spec | {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}
            ).encode()
        },
        "found list; copy": pair([1, 2]),
        "tokens and their ids": pair(vocab | {"a": "1"}),
        "'<|endoftext|>' is not in": pair(no_end),
        "ids are not 0 to": pair(vocab | {"zz": 5000}),
        "1 of 256 bytes": pair(no_byte),
        "byte alphabet": pair({("好" if i == 998 else token): i for token, i in vocab.items()}, b"#version: 0.2\n"),
        "expected two tokens": pair(vocab, b"a b c\n"),
        "do not fit": pair(vocab, b"Gato Perro\n"),
        "not UTF-8 text": pair(vocab, b"\xff \xff\n"),
    }


def test_broken_files_are_one_line_errors_that_name_the_file(bpe_folder: Path, tmp_path: Path) -> None:
    for n, (what, files) in enumerate(_broken_files(bpe_folder).items()):
        folder = tmp_path / str(n)
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        with pytest.raises(TokenizerError) as error:
            Tokenizer.from_pretrained(folder)
        message = str(error.value)
        assert what in message, message
        assert str(folder) in message, what
        assert "\n" not in message, what


def test_role_names_that_text_could_forge_are_refused(tmp_path: Path) -> None:
    """A vocabulary trained with user_defined_symbols would turn a typed <|fin|> into the end of the turn."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hola que tal estas hoy amigo mio"] * 20),
        model_writer=model,
        model_type="unigram",
        vocab_size=290,
        hard_vocab_limit=False,
        byte_fallback=True,
        user_defined_symbols=["<|fin|>"],
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    with pytest.raises(TokenizerError, match="not a control symbol"):
        Tokenizer.from_pretrained(tmp_path)


def test_importing_the_tokenizer_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, model.tokenizer, model.conversation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Text to ids and back, for the two kinds of tokenizer met here: a sentencepiece model and GPT-2's byte-level BPE.

Always: `encode` yields ids of ordinary text, whatever the text says; special ids enter by number (`special_id`).
Nothing is switched at run time, so one tokenizer serves every thread. Decoding is a table of bytes per id, the same for
the whole (`decode`) and for a stream (`StreamDecoder`). `model_max_length` is not read: the model's n_positions rules.
"""

from __future__ import annotations

import codecs
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.bpe_files import END_OF_TEXT, one_line, read_tokenizer_json, read_vocab_and_merges
from model.errors import TokenizerError

if TYPE_CHECKING:
    import sentencepiece
    import tokenizers

ROLE_NAMES = ("<|usuario|>", "<|tertulia|>", "<|sistema|>", "<|fin|>")
_SPACE = "\u2581"  # sentencepiece writes a space so
_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer(ABC):
    """Base of the two kinds; `Tokenizer.from_pretrained(folder)` returns the one that the folder's files ask for.

    bos_id opens a document of plain text, eos_id ends a reply, pad_id is eos_id where the vocabulary has no padding.
    """

    def __init__(
        self, *, pieces: list[bytes], special: dict[str, int], bos_id: int, eos_id: int, pad_id: int, files: list[Path]
    ) -> None:
        self.num_tokens = len(pieces)
        self.bos_id, self.eos_id, self.pad_id = bos_id, eos_id, pad_id
        self.special_ids = frozenset(special.values())
        self._pieces = pieces
        self._special = special
        self._special_bytes = {i: name.encode() for name, i in special.items()}
        self._files = files
        # sentencepiece writes a space before a text's first word; a decoded text is given without it
        self._drops_first_space = False

    @staticmethod
    def from_pretrained(folder: str | Path) -> Tokenizer:
        """Read `tokenizer.model`, else `tokenizer.json`, else `vocab.json` + `merges.txt`, of a folder or known model.

        Raises TokenizerError, or what `hub.resolve` raises for a name.
        """
        if not Path(folder).is_dir():
            from model import hub  # needs torch, which a folder's tokenizer does without

            folder = hub.resolve(folder)
        folder = Path(folder)
        try:
            return Tokenizer._read(folder)
        except OSError as error:
            raise TokenizerError(f"{folder}: its tokenizer cannot be read ({error}); check the permissions") from error

    @staticmethod
    def _read(folder: Path) -> Tokenizer:
        if (folder / "tokenizer.model").is_file():
            return SentencePieceTokenizer(folder / "tokenizer.model")
        if (folder / "tokenizer.json").is_file():
            return BytePairTokenizer(*read_tokenizer_json(folder / "tokenizer.json"), [folder / "tokenizer.json"])
        pair = [folder / "vocab.json", folder / "merges.txt"]
        missing = [path.name for path in pair if not path.is_file()]
        if not missing:
            return BytePairTokenizer(*read_vocab_and_merges(*pair), pair)
        found = (
            "tokenizer.model, tokenizer.json and vocab.json + merges.txt are"
            if len(missing) == 2
            else missing[0] + " is"
        )
        raise TokenizerError(
            f"{folder}: {found} missing; copy tokenizer.json (or vocab.json and merges.txt) of the original model "
            "there, for GPT-J and BERTIN any copy of GPT-2's will do"
        )

    # Text and ids

    def encode(self, text: str) -> list[int]:
        """Ids of the text, never a special id: "<|endoftext|>" in it is fourteen characters like any other.

        A lone surrogate becomes U+FFFD, nothing else is changed; the length is conversation.MAX_TEXT_BYTES's affair.
        """
        return self._encode(_SURROGATE.sub("\ufffd", text))

    @abstractmethod
    def _encode(self, text: str) -> list[int]:
        """Ids of a text without lone surrogates, never a special id."""

    def encode_document(self, text: str) -> list[int]:
        """Ids of a plain text to continue or measure: bos goes before it if the vocabulary has its own; never empty."""
        ids = self.encode(text)
        return ids if ids and self.bos_id == self.eos_id else [self.bos_id, *ids]

    def decode(self, ids: Any, *, skip_special_tokens: bool = True) -> str:
        """Text of a list of ids or of a one-dimensional tensor. Bytes that are no character become U+FFFD."""
        data = b"".join(self.token_bytes(i, skip_special=skip_special_tokens) for i in _flat(ids))
        if self._drops_first_space and data.startswith(b" "):
            data = data[1:]
        return data.decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int, *, skip_special: bool = True) -> bytes:
        """The bytes of one id; b"" for a special id that is skipped. Raises TokenizerError for an id that is none."""
        if not 0 <= token_id < self.num_tokens:
            raise TokenizerError(
                f"token id {token_id} is not in the vocabulary of {self._files[0]}: expected 0 to {self.num_tokens - 1}"
                "; is this tokenizer the model's own?"
            )
        if not skip_special and token_id in self._special_bytes:
            return self._special_bytes[token_id]
        return self._pieces[token_id]

    def special_id(self, name: str) -> int:
        """Id of a special token such as "<|fin|>" or "<|endoftext|>". Raises TokenizerError where there is none."""
        if name not in self._special:
            has = ", ".join(sorted(self._special)) or "none"
            raise TokenizerError(
                f"{self._files[0]}: no special token {name!r} (there: {has}); choose a prompt format of this model"
            )
        return self._special[name]

    # The face that people know from transformers

    @property
    def bos_token_id(self) -> int:
        return self.bos_id

    @property
    def eos_token_id(self) -> int:
        return self.eos_id

    @property
    def pad_token_id(self) -> int:
        return self.pad_id

    def __len__(self) -> int:
        return self.num_tokens

    def __call__(self, text: str | Sequence[str], return_tensors: str | None = None) -> dict[str, Any]:
        """Text or texts to continue -> {"input_ids", "attention_mask"}; several are padded on the left to one length.

        With return_tensors="pt" int64 tensors (B, T), else lists (nested if several texts were given).
        """
        if return_tensors not in (None, "pt"):
            raise ValueError(f'return_tensors is {return_tensors!r}: expected None or "pt"')
        rows = [self.encode_document(one) for one in ([text] if isinstance(text, str) else text)]
        width = max(map(len, rows), default=0)
        input_ids = [[self.pad_id] * (width - len(row)) + row for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        if return_tensors == "pt":
            import torch

            shape = (len(rows), width)
            return {
                "input_ids": torch.tensor(input_ids, dtype=torch.int64).reshape(shape),
                "attention_mask": torch.tensor(mask, dtype=torch.int64).reshape(shape),
            }
        if isinstance(text, str):
            return {"input_ids": input_ids[0], "attention_mask": mask[0]}
        return {"input_ids": input_ids, "attention_mask": mask}

    def files(self) -> list[Path]:
        """The files this tokenizer was read from: all that another folder needs."""
        return list(self._files)

    def save_pretrained(self, folder: str | Path) -> None:
        """Copy the tokenizer's files into the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for path in self._files:
            if not (folder / path.name).exists() or not path.samefile(folder / path.name):
                shutil.copyfile(path, folder / path.name)


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model, called directly: transformers would read a unigram model as BPE and give other ids."""

    def __init__(self, path: Path) -> None:
        import sentencepiece

        data = path.read_bytes()
        try:
            processor = sentencepiece.SentencePieceProcessor(model_proto=data) if data else None
        except RuntimeError as error:
            raise TokenizerError(f"{path}: not a sentencepiece model ({one_line(error)}); copy it again") from error
        if processor is None or len(processor) == 0:
            raise TokenizerError(f"{path}: an empty sentencepiece model; copy it again")
        self._processor: sentencepiece.SentencePieceProcessor = processor
        special = {processor.id_to_piece(i): i for i in range(len(processor)) if processor.is_control(i)}
        eos_id = special.get("<|fin|>", processor.eos_id())
        if eos_id < 0:
            raise TokenizerError(
                f'{path}: neither "<|fin|>" nor an end-of-sentence symbol; expected one as a control symbol'
            )
        super().__init__(
            pieces=[self._piece_bytes(i) for i in range(len(processor))],
            special=special,
            bos_id=processor.bos_id() if processor.bos_id() >= 0 else eos_id,
            eos_id=eos_id,
            pad_id=processor.pad_id() if processor.pad_id() >= 0 else eos_id,
            files=[path],
        )
        self._drops_first_space = bool(self._pieces[self._encode("a")[0]].startswith(b" "))
        for name in ROLE_NAMES:  # as a user-defined symbol it would be matched in what a user types
            if name not in special and processor.piece_to_id(name) != processor.unk_id():
                raise TokenizerError(
                    f"{path}: {name!r} is not a control symbol, so text could forge it; train it as one"
                )

    def _piece_bytes(self, token_id: int) -> bytes:
        sp = self._processor
        if sp.is_control(token_id):
            return b""
        if sp.is_byte(token_id):
            return bytes([int(sp.id_to_piece(token_id)[3:5], 16)])  # "<0x0A>"
        if sp.is_unknown(token_id):
            return sp.decode([token_id]).encode()
        return sp.id_to_piece(token_id).replace(_SPACE, " ").encode()

    def _encode(self, text: str) -> list[int]:
        return self._processor.encode(text, out_type=int, add_bos=False, add_eos=False)


class BytePairTokenizer(Tokenizer):
    """GPT-2's byte-level BPE, built from its vocabulary and merges alone: without added tokens nothing in a text can
    match a special one, and there is no setting to toggle between threads."""

    def __init__(self, vocab: dict[str, int], merges: list[tuple[str, str]], files: list[Path]) -> None:
        from tokenizers import Tokenizer as Backend
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel

        path = files[0]
        to_byte = {char: byte for byte, char in enumerate(_byte_alphabet())}
        if END_OF_TEXT not in vocab:
            raise TokenizerError(f"{path}: {END_OF_TEXT!r} is not in the vocabulary; expected GPT-2's")
        if sorted(vocab.values()) != list(range(len(vocab))):
            raise TokenizerError(
                f"{path}: the vocabulary's {len(vocab)} ids are not 0 to {len(vocab) - 1}; copy it again"
            )
        if missing := set(to_byte) - vocab.keys():
            raise TokenizerError(f"{path}: {len(missing)} of 256 bytes are not in the vocabulary: not a byte-level BPE")
        eos_id = vocab[END_OF_TEXT]
        pieces = [b""] * len(vocab)
        for token, i in vocab.items():
            if i == eos_id:
                continue
            try:
                pieces[i] = bytes(to_byte[char] for char in token)
            except KeyError:
                raise TokenizerError(f"{path}: token {token!r} is not written in GPT-2's byte alphabet") from None
        try:
            model = BPE(vocab=vocab, merges=merges)
        except Exception as error:  # the library raises bare Exceptions
            raise TokenizerError(
                f"{path}: vocabulary and merges do not fit ({one_line(error)}); copy both again"
            ) from error
        self._backend: tokenizers.Tokenizer = Backend(model)
        self._backend.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=True)
        super().__init__(
            pieces=pieces, special={END_OF_TEXT: eos_id}, bos_id=eos_id, eos_id=eos_id, pad_id=eos_id, files=files
        )

    def _encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids


class StreamDecoder:
    """The text of a growing list of ids, piece by piece: all that is pushed and flushed equals `tokenizer.decode(ids)`.

    A character comes out when its last byte has come in; bytes that can no longer become one come out as U+FFFD. A
    token costs what its own bytes cost, however long the reply. One decoder serves one reply, in one thread.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._drop_space = tokenizer._drops_first_space

    def push(self, token_id: int) -> str:
        """The new text that is certain with this id; "" while a character is incomplete."""
        data = self._tokenizer.token_bytes(token_id)
        if data and self._drop_space:
            self._drop_space = False
            data = data.removeprefix(b" ")
        return self._utf8.decode(data)

    def flush(self) -> str:
        """What is left at the end: "" or U+FFFD for a character cut short."""
        return self._utf8.decode(b"", final=True)


def _flat(ids: Any) -> Iterable[int]:
    """A list of ids, or a tensor or array of them, as plain ints."""
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(values, int):
        return [values]
    if any(not isinstance(i, int) for i in values):
        raise TypeError("decode takes one sequence of token ids: of a batch, decode each row")
    return values


def _byte_alphabet() -> list[str]:
    """GPT-2's printable character for each byte: itself where it is printable, else the next free one from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + moved.index(byte)) for byte in range(256)]

"""The embedded model's vocabulary: a sentencepiece unigram model of 8,000 pieces with byte fallback, trained on what
the model will read.

Control symbols can never come out of text. Digits stand alone, + and = are in, the line break is a piece of its own,
and nothing is normalised.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from random import Random

import sentencepiece

from training.pretrain import charla, corpus
from training.pretrain.dialogues import Generator
from training.pretrain.drills import invented

logger = logging.getLogger(__name__)

USER, ASSISTANT, SYSTEM, END = "<|usuario|>", "<|tertulia|>", "<|sistema|>", "<|fin|>"
VOCAB_SIZE = 8000
FORCED = "0123456789+-=*/%¿?¡!«»—…áéíóúüñÁÉÍÓÚÜÑ€°"


def sentences(work: Path, seed: int = 3, num_dialogues: int = 12000) -> list[str]:
    """The text the vocabulary is fitted to: dialogues, stories, prose, and invented names for good letters."""
    rng = Random(seed)
    data = charla.load()
    generator = Generator(data)
    lines = [text for docs in corpus.read_prose(work).values() for document in docs for text in document.split("\n")]
    for kind in ("drill", "single", "talk"):
        for _ in range(num_dialogues // 3):
            lines += [text for turn in generator.dialogue(rng, kind) for text in turn]
    lines += [text for turns in data.dialogues for turn in turns for text in turn] * 3
    lines += [text for _, text in data.stories] * 3
    lines += [f"{invented(rng, 2)} {invented(rng, 3)}" for _ in range(2000)]
    return [line for text in lines for line in text.split("\n") if line.strip()]


def run(*, work: Path = corpus.WORK, vocab_size: int = VOCAB_SIZE, seed: int = 3, num_dialogues: int = 12000) -> Path:
    """Trains the vocabulary into `<work>/tokenizer.model` and returns its path; does nothing when it is there."""
    target = work / "tokenizer.model"
    if target.exists():
        logger.info("%s is there already", target)
        return target
    work.mkdir(parents=True, exist_ok=True)
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(work, seed, num_dialogues)),
        model_writer=made,
        vocab_size=vocab_size,
        model_type="unigram",
        byte_fallback=True,
        split_digits=True,
        character_coverage=0.9999,
        required_chars=FORCED,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        user_defined_symbols=["\n"],
        control_symbols=[USER, ASSISTANT, SYSTEM],
        unk_id=0,
        bos_id=1,
        eos_id=2,
        eos_piece=END,
        pad_id=3,
        num_threads=2,
        input_sentence_size=300000,
        shuffle_input_sentence=True,
        minloglevel=1,
    )
    partial = work / "tokenizer.partial"
    partial.write_bytes(made.getvalue())
    partial.rename(target)
    return target

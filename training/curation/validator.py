"""What a run will train on, in figures, before it starts; and what people should know about it."""

from dataclasses import dataclass
from itertools import groupby

from model.conversation import render
from model.prompt_formats import PromptFormat
from model.tokenizer import Tokenizer
from training.curation.fitting import fit
from training.curation.snapshot import Snapshot
from training.curation.split import MIN_PEOPLE
from training.errors import DataError
from training.examples import Example
from training.judging.canaries import SOURCE

FEW_REPLIES = 100  # vetted replies, below which tuning rarely pays (rule of thumb of GPT-J's tuners)
_MOST_OF_IT = 0.5


@dataclass(frozen=True)
class Validation:
    """Figures of a snapshot under a tokenizer and a context; `warnings` are sentences for people.

    `examples` are those of `train` as they stand, `pieces` as they are trained on; `tokens` of all pieces,
    `trained_tokens` those with loss; `longest` piece; `cut`: examples in several pieces; `dropped_turns`: replies that
    are learnt nowhere, since their turn is longer than the context.
    """

    examples: int
    pieces: int
    held_out: int
    preferences: int
    tokens: int
    trained_tokens: int
    longest: int
    cut: int
    dropped_turns: int
    warnings: tuple[str, ...]


def validate(snapshot: Snapshot, fmt: PromptFormat, tokenizer: Tokenizer, context: int) -> Validation:
    """Count and check; changes nothing. Raises DataError if nothing fits the context."""
    fitted = [fit(example, fmt, tokenizer, context) for example in snapshot.train]
    pieces = [piece for one in fitted for piece in one.pieces]
    if not pieces:
        raise DataError(
            f"{snapshot.folder}: none of {len(fitted)} examples fits a context of {context} tokens; shorten them"
        )
    lengths, learnt = zip(*(count(piece, fmt, tokenizer) for piece in pieces), strict=True)
    cut = sum(len(one.pieces) > 1 for one in fitted)
    dropped = sum(one.dropped_turns for one in fitted)
    return Validation(
        examples=len(snapshot.train),
        pieces=len(pieces),
        held_out=len(snapshot.held_out),
        preferences=len(snapshot.preferences),
        tokens=sum(lengths),
        trained_tokens=sum(learnt),
        longest=max(lengths),
        cut=cut,
        dropped_turns=dropped,
        warnings=tuple(_warnings(snapshot, context, cut, dropped)),
    )


def count(piece: Example, fmt: PromptFormat, tokenizer: Tokenizer) -> tuple[int, int]:
    """(tokens, those with loss) of a piece that fits, in the training form."""
    if piece.document is not None:
        num_tokens = len(tokenizer.encode_document(piece.document)) + 1
        return num_tokens, num_tokens - 1
    mask = render(piece.messages, fmt, tokenizer).loss_mask
    replies = [len(list(run)) for said, run in groupby(mask) if said]
    wanted = [
        learn for message, learn in zip(piece.messages, piece.trained, strict=True) if message.role == "assistant"
    ]
    return len(mask), sum(length for length, learn in zip(replies, wanted, strict=True) if learn)


def _warnings(snapshot: Snapshot, context: int, cut: int, dropped: int) -> list[str]:
    warnings = []
    people = [example for example in snapshot.train if example.source != SOURCE]  # planted secrets are nobody's
    num_replies = sum(example.num_turns for example in people)
    num_held_out = len({example.user for example in snapshot.held_out})
    if num_replies < FEW_REPLIES:
        warnings.append(
            f"there are {num_replies} replies to learn in {len(people)} examples: "
            f"fewer than {FEW_REPLIES} rarely teach anything"
        )
    if not num_held_out:
        warnings.append(
            "all is one person's, so nothing is held out to judge by: the result can only be promoted by force"
        )
    elif num_held_out < MIN_PEOPLE:
        warnings.append(
            f"{num_held_out} people are held out to judge by, {MIN_PEOPLE} are needed for a statement with 95 % "
            "confidence: the result can only be promoted by force"
        )
    turns: dict[str, int] = {}
    for example in people:
        turns[example.user] = turns.get(example.user, 0) + example.num_turns
    most = max(turns.values(), default=0)
    if len(turns) > 1 and most > _MOST_OF_IT * num_replies:
        warnings.append(f"{most / num_replies:.0%} of the turns are of one person, whose manner will rule")
    if cut:
        warnings.append(f"{cut} examples are longer than the context of {context} tokens and are cut at turns")
    if dropped:
        warnings.append(f"{dropped} turns are alone longer than the context of {context} tokens and are left out")
    return warnings

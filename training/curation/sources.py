"""Where examples come from: the log's consented dialogues, and files of three formats known by their content.

Always: what is gathered stands there as it was written; `curate` cleans, redacts and filters. A reply is learnt unless
people disliked it (thumbs down); a correction takes its place and makes a pair with it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.conversation import Message
from training.consented import ConsentedDialogue, ConsentedTurn
from training.curation.csv_pairs import is_header, read_csv
from training.curation.documents import is_text, read_text
from training.curation.files import END, FileDialogue, lines
from training.curation.json_dialogues import read_json
from training.dialogues import DialogueLog
from training.errors import DataError
from training.examples import Example, Preference, user_key

_HISTORY = 2 * 32  # messages before a pair of replies: more than a context holds


@dataclass(frozen=True)
class Gathered:
    """What one source holds, as it is there; `remark` says why it is empty, if it is."""

    name: str
    examples: tuple[Example, ...]
    preferences: tuple[Preference, ...]
    counts: Mapping[str, int]
    remark: str = ""


def read_log(log: DialogueLog, system: str = "") -> Gathered:
    """The dialogues whose writers consent now. `system`: the text of chats that have none of their own.

    Raises LogError.
    """
    counts: Counter[str] = Counter()
    examples: list[Example] = []
    preferences: list[Preference] = []
    for dialogue in log.consented_dialogues():
        counts["log_dialogues"] += 1
        example, pairs = _of_log(dialogue, system, counts)
        examples += example
        preferences += pairs
    remark = ""
    if not counts["log_dialogues"]:
        stats = log.stats()
        remark = (
            f"nobody whose text is in it ({stats['messages_with_text']} messages) lets it be used in training"
            if stats["messages_with_text"]
            else "it holds no message"
        )
    return Gathered("the log", tuple(examples), tuple(preferences), counts, remark)


def read_file(path: Path) -> Gathered:
    """JSON lines of messages or of prompt and completion, CSV of the latter, or a text with <|endoftext|> at ends.

    Raises DataError naming the file and the line.
    """
    counts: Counter[str] = Counter()
    examples: list[Example] = []
    preferences: list[Preference] = []
    for item in _items(path):
        counts["file_examples"] += 1
        if item.document is not None:
            examples.append(Example((), (), item.user, source=item.source, document=item.document))
            continue
        example, pairs = _of_file(item, counts)
        examples += example
        preferences += pairs
    return Gathered(str(path), tuple(examples), tuple(preferences), counts)


def _items(path: Path) -> Iterator[FileDialogue]:
    wanted = f"JSON lines, CSV with the columns prompt and completion, or a text with {END} after every example"
    first = next(((number, text) for number, text in lines(path) if text.strip()), None)
    if first is None:
        raise DataError(f"{path} is empty: expected {wanted}")
    if first[1].lstrip().startswith("{"):
        return read_json(path)
    if is_header(first[1]):
        return read_csv(path)
    if is_text(path):
        return read_text(path)
    raise DataError(f"{path}, line {first[0]}: expected {wanted}")


class _Dialogue:
    """An example and its pairs, as they grow turn by turn."""

    def __init__(self, system: str, user: str, source: str, system_id: int | None = None) -> None:
        self.user, self.source = user, source
        self.head = (Message("system", system),) if system.strip() else ()
        self.head_ids = (system_id,) if system_id is not None and self.head else ()
        self.row_ids: list[int] = []
        self.messages: list[Message] = []
        self.trained: list[bool] = []
        self.preferences: list[Preference] = []

    def add(self, text: str, reply: str, learn: bool, row_ids: Sequence[int] = ()) -> None:
        self.messages += [Message("user", text), Message("assistant", reply)]
        self.trained += [False, learn]
        self.row_ids += row_ids

    def prefer(self, text: str, chosen: str, rejected: str, row_ids: Sequence[int] = ()) -> None:
        """A pair of replies to `text`, which is not added yet."""
        history = (*self.head, *self.messages[-_HISTORY:], Message("user", text))
        rows = (*self.head_ids, *self.row_ids[-_HISTORY:], *row_ids)
        self.preferences.append(Preference(history, chosen, rejected, self.user, rows))

    def example(self) -> Iterator[Example]:
        """One, or none if nothing was answered."""
        if self.messages:
            trained = (*(False for _ in self.head), *self.trained)
            messages = (*self.head, *self.messages)
            yield Example(messages, trained, self.user, (*self.head_ids, *self.row_ids), self.source)


def _of_log(dialogue: ConsentedDialogue, system: str, counts: Counter[str]) -> tuple[list[Example], list[Preference]]:
    # Whoever imported dialogues without names wrote none of them: each is a person's own.
    number = dialogue.user_id or f"chat {dialogue.chat.chat_id}"
    user = user_key(dialogue.chat.platform, number)
    made = _Dialogue(dialogue.system or system, user, "log", dialogue.system_id)
    for turn in dialogue.turns:
        live = next((reply for reply in reversed(turn.replies) if reply.live), None)
        if live is None:
            counts["unanswered"] += 1
            continue
        for chosen, rejected, ids in _pairs(turn):
            made.prefer(turn.text, chosen, rejected, (turn.id, *ids))
        counts["log_turns"] += 1
        counts["corrected"] += live.correction is not None
        disliked = live.rating < 0 and live.correction is None
        counts["thumbs_down"] += disliked
        made.add(turn.text, live.correction or live.text, not disliked, (turn.id, live.id))
    return list(made.example()), made.preferences


def _pairs(turn: ConsentedTurn) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(chosen, rejected, rows): what people's corrections, thumbs and wish for another reply say.

    👍 beats 👎; the reply that was left standing beats a 👎 one before it; with 👍 it beats any before it.
    """
    for reply in turn.replies:
        if reply.correction is not None:
            yield reply.correction, reply.text, (reply.id,)
    for chosen in turn.replies:
        for rejected in turn.replies:
            liked, disliked = chosen.rating > 0, rejected.rating < 0
            stands = chosen.live and not rejected.live
            if (liked and disliked) or (stands and chosen.rating >= 0 >= rejected.rating and (liked or disliked)):
                yield chosen.text, rejected.text, (chosen.id, rejected.id)


def _of_file(item: FileDialogue, counts: Counter[str]) -> tuple[list[Example], list[Preference]]:
    people: dict[str, _Dialogue] = {}
    for turn in item.turns:
        made = people.setdefault(turn.user, _Dialogue(item.system, turn.user, item.source))
        if turn.correction is not None:
            counts["corrected"] += 1
            made.prefer(turn.text, turn.correction, turn.reply)
        disliked = turn.rating < 0 and turn.correction is None
        counts["thumbs_down"] += disliked
        made.add(turn.text, turn.correction or turn.reply, not disliked)
    return (
        [example for made in people.values() for example in made.example()],
        [pair for made in people.values() for pair in made.preferences],
    )

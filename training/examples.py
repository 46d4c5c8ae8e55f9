"""What training learns from, wherever it came from: dialogues with the replies to learn marked, and pairs of replies.

Always: text is clean (`model.user_text`) and redacted once it has passed `training.curation`; without torch.
"""

import hashlib
from dataclasses import dataclass

from model.conversation import Message


@dataclass(frozen=True)
class Example:
    """A dialogue: perhaps a system message, then user and assistant in turn, the assistant last; or one raw text.

    `trained`: for each message, whether its tokens carry loss; True on replies only. `user`: stable key of the person
    (`user_key`), or "file:NAME:LINE". `row_ids`: the log's messages it was made of.
    """

    messages: tuple[Message, ...]
    trained: tuple[bool, ...]
    user: str
    row_ids: tuple[int, ...] = ()
    source: str = "log"
    document: str | None = None  # instead of messages: one example of a text file

    @property
    def num_turns(self) -> int:
        """Replies to learn; a document counts as one."""
        return 1 if self.document is not None else sum(self.trained)

    @property
    def texts(self) -> tuple[str, ...]:
        """All that was said, without the system text; or the document."""
        if self.document is not None:
            return (self.document,)
        return tuple(message.content for message in self.messages if message.role != "system")


@dataclass(frozen=True)
class Preference:
    """Two replies to the same history, which ends with the user's message: the one people liked better, the other."""

    history: tuple[Message, ...]
    chosen: str
    rejected: str
    user: str
    row_ids: tuple[int, ...] = ()


def user_key(platform: str, user_id: int | str) -> str:
    """The same 16 hexadecimal digits for a person whenever a log or a file is read."""
    return hashlib.sha256(f"{platform}:{user_id}".encode("utf-8", errors="replace")).hexdigest()[:16]

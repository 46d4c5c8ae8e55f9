"""The dialogue log: the one face that front ends and training see of the stored conversations.

Always: what a method stored is on disk when it returns, and nothing of it is if it raised; every method may be called
from any thread. Without torch.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import select, update

from training import consent, consented, figures, forgetting, inbox_table, ratings, turns
from training.consented import ConsentedDialogue
from training.database import Database, parse_url, sqlite_url
from training.records import Chat, InboxRow, LoggedMessage, ReplyFacts
from training.schema import chats, now

__all__ = ["Chat", "ConsentedDialogue", "DialogueLog", "InboxRow", "LoggedMessage", "ReplyFacts", "sqlite_url"]


class DialogueLog:
    """The log at a URL: sqlite:////path (see `sqlite_url`) or postgresql://.... Raises LogError."""

    def __init__(self, url: str) -> None:
        self.database = _open(url)
        self._is_compact = True  # but for what earlier runs left, which `purge` drives out

    @property
    def recovered_from(self) -> Path | None:
        """The damaged file that was set aside for a new one, since this log was opened; the people should know."""
        return self.database.recovered_from

    @property
    def notice(self) -> str | None:
        """What the operator should know of that, in a line."""
        path = self.recovered_from
        return None if path is None else f"the log was damaged: it is set aside as {path}, and a new one is begun"

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> "DialogueLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Conversations

    def history(self, chat: Chat) -> list[LoggedMessage]:
        """The last messages of user and assistant in the open conversation, oldest first; the system text is `system`.

        No more than `turns.HISTORY` and as many again: a model's context holds fewer.
        """
        return self.database.read(lambda conn: turns.history(conn, chat))

    def append_turn(
        self,
        chat: Chat,
        user_id: int,
        text: str,
        reply: str,
        facts: ReplyFacts,
        *,
        reply_ids: tuple[int, ...] | None = None,
        update_id: int | None = None,
        external_id: int | None = None,
        replaces: int | None = None,
    ) -> tuple[int, int]:
        """Store a message and its reply -> (id of the message, id of the reply).

        With `update_id` the inbox row becomes "answered" in the same transaction; if it was already, the ids it has
        come back and nothing is stored twice. `external_id` is the platform's number of the user's message.
        `replaces` is the message that was edited: its turn is undone with it, if it is the last one. Raises Forgotten
        if the inbox row was closed meanwhile.
        """
        return self.database.write(
            lambda conn: turns.append_turn(
                conn, chat, user_id, text, reply, facts,
                reply_ids=reply_ids, update_id=update_id, external_id=external_id, replaces=replaces,
            )
        )  # fmt: skip

    def replace_reply(
        self,
        chat: Chat,
        reply: str,
        facts: ReplyFacts,
        *,
        reply_ids: tuple[int, ...] | None = None,
        update_id: int | None = None,
        answers: int | None = None,
    ) -> int:
        """Another reply instead of the last one -> its id. Raises NothingToReplace, Forgotten.

        `answers` is the user's message that it was made for: if that is no longer the last one, nothing is stored.
        """
        return self.database.write(
            lambda conn: turns.replace_reply(
                conn, chat, reply, facts, reply_ids=reply_ids, update_id=update_id, answers=answers
            )
        )

    def undo(self, chat: Chat, *, update_id: int | None = None, answers: tuple[str, str] | None = None) -> bool:
        """Take the last turn back and erase its text; False if there is none.

        With `update_id` its inbox row is answered in the same transaction: with answers[0], or answers[1] if there was
        nothing. If it is answered already, nothing more is undone.
        """
        work = partial(turns.undo, chat=chat, update_id=update_id, answers=answers)
        return self._erasing(self.database.write(work))

    def new_conversation(self, chat: Chat) -> None:
        """Close the open conversation and erase the text of people who do not consent.

        The last traces of it leave the files with the next `purge`.
        """
        self._erasing(self.database.write(lambda conn: turns.new_conversation(conn, chat)))

    def move_chat(self, platform: str, old_id: int, new_id: int) -> None:
        """A group has a new number (it migrated to a supergroup)."""
        self.database.write(lambda conn: turns.move_chat(conn, platform, old_id, new_id))

    def set_system(self, chat: Chat, text: str, *, user_id: int | None = None) -> None:
        """The system text from now on; with `user_id`, forgetting that person erases it in a group too."""
        self._set(chat, {"system": text, "system_by": user_id})

    def system(self, chat: Chat) -> str:
        return str(self._get(chat, "system") or "")

    def set_preferences(self, chat: Chat, values: Mapping[str, float | int]) -> None:
        self._set(chat, {"preferences": dict(values)})

    def set_preference(self, chat: Chat, name: str, value: float | None) -> dict[str, float | int]:
        """Change one of them, None: take it away -> all that hold now. Two changes at once both hold."""
        return self.database.write(lambda conn: turns.set_preference(conn, chat, name, value))

    def preferences(self, chat: Chat) -> dict[str, float | int]:
        return dict(self._get(chat, "preferences") or {})

    def set_external_id(self, reply_id: int, external_id: int) -> None:
        """The platform's number of a message, of a reply once it is delivered."""
        self.database.write(lambda conn: turns.set_external_id(conn, reply_id, external_id))

    # People

    def rate(self, chat: Chat, reply_id: int, user_id: int, value: Literal[-1, 1]) -> bool:
        """A thumb, the last one holds; False: no such reply in that chat."""
        return self.database.write(lambda conn: ratings.rate(conn, chat, reply_id, user_id, value))

    def correct(self, chat: Chat, reply_id: int, user_id: int, text: str) -> bool:
        """A better answer, the last one holds; False: no such reply in that chat, or nothing is written."""
        return self.database.write(lambda conn: ratings.correct(conn, chat, reply_id, user_id, text))

    def consent(self, user_id: int) -> bool | None:
        """Whether a person lets the text be used in training; None: has not said."""
        return self.database.read(lambda conn: consent.of(conn, user_id))

    def set_consent(self, user_id: int, granted: bool, *, text_version: int = 1, source: str = "bot") -> None:
        """Add a line to the ledger. A withdrawal erases the stored text but for open conversations.

        `text_version` is the number of the notice's wording. Raises LogCompactionError as `forget` does.
        """
        num_erased = self.database.write(lambda conn: consent.record(conn, user_id, granted, text_version, source))
        if num_erased or not (granted or self._is_compact):  # mostly nothing, and to compact takes 10 ms a megabyte
            self._compact()

    def forget(self, user_id: int, *, up_to: int | None = None) -> int:
        """Erase all that is stored of a person, in the files too -> rows.

        `up_to` is the update that asked for it: what is in the inbox since then is new, and will be answered.
        Raises LogCompactionError if the rows are gone but bytes remain; asking again goes on. Damaged files that were
        set aside are deleted: nothing in them can be erased alone.
        """
        rows = self.database.write(lambda conn: forgetting.forget(conn, user_id, up_to))
        self._compact()
        self.database.drop_set_aside(now())
        return rows

    def export_user(self, user_id: int) -> dict[str, Any]:
        """All that is stored of a person, as JSON values."""
        return self.database.read(lambda conn: forgetting.export_user(conn, user_id))

    def blocked(self, user_id: int) -> bool:
        return self.database.read(lambda conn: consent.is_blocked(conn, user_id))

    def set_blocked(self, user_id: int, blocked: bool) -> None:
        self.database.write(lambda conn: consent.block(conn, user_id, blocked))

    def count_since(self, user_id: int, since: datetime) -> int:
        """A user's messages that were answered since then."""
        return self.database.read(lambda conn: figures.count_since(conn, user_id, since))

    def purge(self, older_than: datetime) -> int:
        """Erase text without consent from before `older_than`, also in the files -> messages erased."""
        num_erased = self.database.write(lambda conn: forgetting.purge(conn, older_than))
        self._compact()
        self.database.drop_set_aside(older_than)
        return num_erased

    def stats(self) -> dict[str, int | float]:
        """Counts of everything, mean latencies, the size on disk."""
        return {**self.database.read(figures.stats), "size_bytes": self.database.size_bytes()}

    def consented_dialogues(self) -> Iterator[ConsentedDialogue]:
        """What may be trained on now: the dialogues of people who consent, oldest first, read piece by piece."""
        return consented.dialogues(self.database)

    # Inbox

    def inbox_put(self, update_id: int, chat: Chat, user_id: int | None, payload: str) -> bool:
        """Store an update before it is confirmed; False: its number was seen before."""
        return self.database.write(lambda conn: inbox_table.put(conn, update_id, chat, user_id, payload))

    def inbox_is_pending(self, update_id: int) -> bool:
        """True if that update is stored and not done."""
        return self.database.read(lambda conn: inbox_table.is_pending(conn, update_id))

    def inbox_pending(self) -> list[InboxRow]:
        """What is not done, in the order of arrival."""
        return self.database.read(inbox_table.pending)

    def inbox_reply(self, update_id: int, reply: str) -> None:
        """Keep a fixed answer, which is no turn, until it is delivered."""
        self.database.write(lambda conn: inbox_table.fixed_reply(conn, update_id, reply))

    def inbox_done(self, update_id: int) -> None:
        """Answered and delivered: the row's text goes, its number stays against repeats."""
        self.database.write(lambda conn: inbox_table.done(conn, update_id))

    def inbox_begin(self, update_id: int) -> int:
        """Count an attempt, so that an update which crashes the process can be given up -> the attempts so far."""
        return self.database.write(lambda conn: inbox_table.begin(conn, update_id))

    def inbox_failed(self, update_id: int, error: str, attempts: int) -> None:
        """Given up: no longer pending, its text goes, counted in `stats`. `error` must hold no text of a person."""
        self.database.write(lambda conn: inbox_table.failed(conn, update_id, error, attempts))

    def inbox_clean(self, older_than: datetime) -> int:
        """Delete numbers of updates that came before `older_than`, none younger than 48 hours -> how many."""
        return self.database.write(lambda conn: inbox_table.clean(conn, older_than))

    def _compact(self) -> None:
        self._is_compact = False
        self.database.compact()
        self._is_compact = True

    def _erasing(self, value: Any) -> Any:
        self.database.tidy()
        return value

    def _get(self, chat: Chat, column: str) -> Any:
        query = select(chats.c[column]).where(turns.is_chat(chat))
        return self.database.read(lambda conn: conn.execute(query).scalar())

    def _set(self, chat: Chat, values: Mapping[str, Any]) -> None:
        def work(conn: Any) -> None:
            conn.execute(update(chats).where(chats.c.id == turns.hold(conn, chat)).values(**values))

        self.database.write(work)


def _open(url: str) -> Database:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        from training.sqlite_file import SqliteFile

        return SqliteFile(parsed)
    from training.postgres import Postgres

    return Postgres(parsed)

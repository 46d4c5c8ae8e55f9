"""What people do in the emulator: write, press, edit, block, move. Each call returns the update's id."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tests.emulator.api import Api
from tests.emulator.record import Sent
from tests.emulator.world import GROUP_ANONYMOUS_BOT, Chat, User

T = TypeVar("T")
BLOCKED = "bot was blocked by the user"


class People:
    """The half of Emulator that drives users and chats; `_do` runs a function in the server's loop."""

    api: Api
    _do: Callable[..., Any]
    _query_ids = itertools.count(4_000_000_000)

    def user(self, first_name: str, **fields: Any) -> User:
        return self._do(lambda: self.api.world.user(first_name, **fields))

    def private(self, user: User) -> Chat:
        return self._do(lambda: self.api.world.private(user))

    def group(self, title: str, kind: str = "supergroup") -> Chat:
        """kind: "supergroup", or "group" for a basic group, which can migrate."""
        return self._do(lambda: self.api.world.group(title, kind))

    def forum(self, title: str) -> Chat:
        return self._do(lambda: self.api.world.group(title, is_forum=True))

    def channel(self, title: str) -> Chat:
        return self._do(lambda: self.api.world.group(title, "channel"))

    def say(self, chat: Chat, user: User | None, text: str | None, **extra: Any) -> int:
        """A message from `user` (None: the user of a private chat); what `extra` may hold stands in the docstring."""
        return self._do(lambda: self._put("message", chat, self._message(chat, user, text, extra)))

    def post(self, channel: Chat, text: str) -> int:
        """A channel post: no sender."""
        return self._do(
            lambda: self._put(
                "channel_post", channel, channel.add(None, {"text": text, "sender_chat": channel.as_json()})
            )
        )

    def edit(self, update_id: int, text: str, *, old: bool = False) -> int:
        """The message of that update gets another text; `old`: the update says that it was written long ago."""

        def go() -> int:
            message = self._by_update[update_id]
            message |= {"text": text, "edit_date": int(time.time())}
            if old:
                message["date"] -= 48 * 3600
            return self._put("edited_message", self.api.world.chats[message["chat"]["id"]], message)

        return self._do(go)

    def press(self, reply: Sent, data: str, user: User | None = None, *, old: bool = False) -> int:
        """Press the button with that data or text; `old`: so long ago that it cannot be answered any more."""

        def go() -> int:
            assert reply.chat_id is not None
            assert reply.message_id is not None
            chat = self.api.world.chats[reply.chat_id]
            presser = user or chat.user
            assert presser is not None, "who presses in a group?"
            message = chat.messages.get(reply.message_id)
            inaccessible = {"chat": chat.as_json(), "message_id": reply.message_id, "date": 0}
            query_id = str(next(self._query_ids))
            self.api.bot.queries[query_id] = time.monotonic() - (1000 if old else 0)
            query = {
                "id": query_id,
                "from": presser.as_json(),
                "chat_instance": str(chat.id),
                "message": message or inaccessible,
                "data": dict(reply.buttons).get(data, data),
            }
            return self.api.updates.put({"callback_query": query})

        return self._do(go)

    def delete(self, chat: Chat, message_id: int) -> None:
        """Someone deletes a message; bots are not told."""
        self._do(lambda: chat.messages.pop(message_id, None))

    def message_id(self, update_id: int) -> int:
        """The message that a `say` made."""
        return self._do(lambda: self._by_update[update_id]["message_id"])

    def push(self, fields: dict[str, Any]) -> int:
        """Any raw update, without its id."""
        return self._do(lambda: self.api.updates.put(fields))

    def poison(self) -> int:
        """An update that python-telegram-bot cannot parse: a message without chat and date."""
        return self.push({"message": {"message_id": 1, "text": "veneno", "entities": [{"type": "bold"}]}})

    def redeliver(self, update_id: int) -> None:
        self._do(lambda: self.api.updates.again(update_id))

    def block(self, user: User) -> int:
        return self._do(lambda: self._member(self.api.world.private(user), user, "kicked", BLOCKED))

    def unblock(self, user: User) -> int:
        return self._do(lambda: self._member(self.api.world.private(user), user, "member", None))

    def kick(self, chat: Chat, user: User) -> int:
        """`user` throws the bot out of the group."""
        return self._do(lambda: self._member(chat, user, "kicked", "bot was kicked from the group chat"))

    def migrate(self, chat: Chat, *, tell: bool = True) -> Chat:
        """The basic group becomes a supergroup; `tell`: with the two service messages that say so."""

        def go() -> Chat:
            new = self.api.world.group(chat.title)
            chat.migrated_to = new.id
            if tell:
                self._put("message", chat, chat.add(GROUP_ANONYMOUS_BOT, {"migrate_to_chat_id": new.id}))
                self._put("message", new, new.add(GROUP_ANONYMOUS_BOT, {"migrate_from_chat_id": chat.id}))
            return new

        return self._do(go)

    def transcript(self, chat: Chat) -> str:
        """Both sides of a chat, as it stands now."""

        def line(message: dict[str, Any]) -> str:
            name = message.get("from", {}).get("first_name", chat.title)
            buttons = message.get("reply_markup", {}).get("inline_keyboard", [])
            rows = "".join("\n    " + " ".join(f"[{button['text']}]" for button in row) for row in buttons)
            text = message.get("text") or message.get("caption") or "(" + ", ".join(set(message) - _ALWAYS) + ")"
            return f"{name} › {text}{rows}"

        return self._do(lambda: "\n".join(line(message) for message in chat.messages.values()))

    @property
    def _by_update(self) -> dict[int, dict[str, Any]]:
        return self.__dict__.setdefault("_messages", {})

    def _message(self, chat: Chat, user: User | None, text: str | None, extra: dict[str, Any]) -> dict[str, Any]:
        fields = dict(extra)
        thread = fields.pop("thread", None)
        if thread is not None:
            chat.threads.add(thread)
        fields |= chat.reply_fields(fields.pop("reply_to", None), thread)
        if (origin := fields.pop("forwarded_from", None)) is not None:
            date = int(time.time()) - 60
            fields["forward_origin"] = {"type": "user", "date": date, "sender_user": origin.as_json()}
        sender = user or chat.user
        who = sender.as_json() if sender else None
        if fields.pop("anonymous", False):
            who, fields["sender_chat"] = GROUP_ANONYMOUS_BOT, chat.as_json()
        if text is not None:
            fields["text"] = text
        return chat.add(who, fields)

    def _put(self, kind: str, chat: Chat, message: dict[str, Any]) -> int:
        update_id = self.api.updates.put({kind: dict(message)})
        self._by_update[update_id] = message
        return update_id

    def _member(self, chat: Chat, user: User, status: str, refusal: str | None) -> int:
        chat.refusal = refusal
        me = self.api.me.as_json()
        left = {"until_date": 0} if status == "kicked" else {}
        fields = {
            "chat": chat.as_json(),
            "from": user.as_json(),
            "date": int(time.time()),
            "old_chat_member": {"user": me, "status": "member" if refusal else "left"},
            "new_chat_member": {"user": me, "status": status} | left,
        }
        return self.api.updates.put({"my_chat_member": fields})


_ALWAYS = {"message_id", "chat", "date", "from"}

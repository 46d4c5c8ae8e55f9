"""An update of the Bot API, read once into the little that the bot acts on.

Always: what is not for the bot (channel posts, other people's talk in a group, other bots) is None and never stored;
a command is one only if a person typed it to this bot now: not forwarded, not edited.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from telegram import CallbackQuery, Message, Update, User

from bot.splitting import is_visible, tidy
from training.dialogues import Chat

PLATFORM = "telegram"
ALLOWED_UPDATES = ["message", "edited_message", "callback_query"]
Kind = Literal["message", "edit", "button", "moved"]
_COMMAND = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@(\w+))?(?:\s+|$)")
MEDIA = (
    *("voice", "audio", "video_note", "sticker", "photo", "animation", "video", "document", "location", "contact"),
    *("poll", "dice", "venue", "game", "story", "invoice", "paid_media", "checklist"),
)


@dataclass(frozen=True)
class Incoming:
    """A message, an edit of one, a pressed button, or the news that a group has another id."""

    update_id: int
    kind: Kind
    chat: Chat
    user_id: int  # negative: written in the name of a chat (anonymous admin, channel)
    message_id: int
    date: datetime  # when it was written, of an edit when it was edited
    text: str = ""  # tidy, without the mention of the bot; a button's data
    command: str | None = None  # its name; `text` is then what stands behind it
    is_forwarded: bool = False
    media: str | None = None  # the kind of what is not text
    album: str = ""  # what several photos that were sent together have in common
    replied_text: str = ""  # of the message that this one answers
    replied_to_bot: bool = False
    replied_user_id: int = 0  # who wrote it
    callback_id: str = ""
    moved_to: int = 0

    @property
    def is_private(self) -> bool:
        return self.chat.chat_id > 0

    @property
    def is_person(self) -> bool:
        """False for what is written in the name of a chat."""
        return self.user_id > 0


def read(raw: dict[str, Any], me: User) -> Incoming | None:
    """What the bot acts on, or None. Raises whatever python-telegram-bot raises at an update that it cannot parse."""
    update = Update.de_json(raw, None)
    if update.callback_query is not None:
        return _button(update.update_id, update.callback_query)
    message, is_edit = update.message or update.edited_message, update.message is None
    if message is None:
        return None
    if message.migrate_to_chat_id is not None:
        chat = Chat(PLATFORM, message.chat_id)
        return Incoming(
            update.update_id,
            "moved",
            chat,
            message.chat_id,
            message.message_id,
            message.date,
            moved_to=message.migrate_to_chat_id,
        )
    return _message(update.update_id, message, is_edit, me)


def _message(update_id: int, message: Message, is_edit: bool, me: User) -> Incoming | None:
    author = message.from_user
    if message.chat.type == "channel" or message.is_automatic_forward or message.via_bot is not None:
        return None
    if author is not None and author.is_bot and message.sender_chat is None:
        return None
    text = tidy(message.text or message.caption or "")
    media = _media(message)
    if message.text is None and (is_edit or (not text and media is None)):
        return None  # a service message: somebody joined, a title changed; or a place that moves, a photo's new caption
    is_forwarded = message.forward_origin is not None
    command, rest, addressee = _command(text)
    is_private = message.chat.type == "private"
    if command and addressee and addressee != (me.username or "").lower() and not is_private:
        return None
    answered = message.reply_to_message
    to_bot = answered is not None and answered.from_user is not None and answered.from_user.id == me.id
    text, is_mentioned = _without_mention(rest if command else text, me)
    if not is_private and not (to_bot or is_mentioned or command):
        return None
    return Incoming(
        update_id=update_id,
        kind="edit" if is_edit else "message",
        chat=chat_of(message),
        user_id=_author(message),
        message_id=message.message_id,
        date=(message.edit_date if is_edit else None) or message.date,
        text=text,
        command=command,
        is_forwarded=is_forwarded,
        media=media if not message.text else None,
        replied_text=tidy(answered.text or answered.caption or "") if answered is not None else "",
        replied_to_bot=to_bot,
        replied_user_id=_author(answered) if answered is not None else 0,
        album=message.media_group_id or "",
    )


def _button(update_id: int, query: CallbackQuery) -> Incoming | None:
    message = query.message
    if message is None:
        return None
    # Of a message that is too old Telegram gives no more than its chat and id.
    chat = chat_of(message) if isinstance(message, Message) else Chat(PLATFORM, message.chat.id)
    return Incoming(
        update_id=update_id,
        kind="button",
        chat=chat,
        user_id=query.from_user.id,
        message_id=message.message_id,
        date=datetime.now(UTC),  # Telegram does not say when it was pressed
        text=query.data or "",
        callback_id=query.id,
    )


def chat_of(message: Message) -> Chat:
    """The conversation of a message: a topic of a forum has its own."""
    thread_id = message.message_thread_id if message.is_topic_message else None
    return Chat(PLATFORM, message.chat_id, thread_id or 0)


def _author(message: Message) -> int:
    """Who wrote it: a person, or the chat in whose name it was written."""
    if message.sender_chat is not None:
        return message.sender_chat.id
    return message.from_user.id if message.from_user is not None else message.chat_id


def _command(text: str) -> tuple[str | None, str, str]:
    """Its name, the rest, and the bot that it is addressed to, if one is named."""
    found = _COMMAND.match(text)
    if not found:
        return None, text, ""
    return found[1].lower(), text[found.end() :].strip(), (found[2] or "").lower()


def _without_mention(text: str, me: User) -> tuple[str, bool]:
    """The text without the bot's @name at its ends (inside it is part of a sentence); whether it was there."""
    if not me.username:
        return text, False
    name = re.compile(rf"(?<!\w)@{re.escape(me.username)}\b", re.IGNORECASE)
    if not name.search(text):
        return text, False
    bare = re.sub(rf"^\s*{name.pattern}[\s,:]*|[\s,]*{name.pattern}\s*$", "", text, flags=re.IGNORECASE)
    return (bare if is_visible(bare) else ""), True


def _media(message: Message) -> str | None:
    return next((kind for kind in MEDIA if getattr(message, kind, None)), None)

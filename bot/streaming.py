"""A reply shown while it is made: as a draft in a private chat, by edits of a message elsewhere, "typing" before.

Always: what is shown meanwhile is a courtesy, made only when there is room and given up at the first refusal; the whole
text is delivered in the end, whatever became of the previews. A quick reply is not previewed at all.
"""

import asyncio
import contextlib
import time
from typing import Any

from telegram import InlineKeyboardButton, InlineKeyboardMarkup
from telegram.constants import ChatAction

from bot import texts_es as es
from bot.delivery import Delivery, Undeliverable
from bot.replies import Running
from bot.splitting import MAX_LENGTH, is_visible, tidy
from training.dialogues import Chat

QUICK_S = 1.0  # a reply that is there by then is simply sent
TICK_S = 0.4
TYPING_S = 4.5  # Telegram shows "typing" for 5 s
STOP_DATA = "stop"


class Preview:
    """What one chat sees of one reply in the making."""

    def __init__(self, delivery: Delivery, chat: Chat, draft_id: int, reply_to: int | None) -> None:
        self.delivery = delivery
        self.chat = chat
        self.reply_to = reply_to
        self.draft_id: int | None = draft_id if chat.chat_id > 0 else None  # None: by edits
        self.message_id: int | None = None  # of the message that is edited
        self._shown = ""
        self._typing_at = 0.0

    async def follow(self, running: Running) -> None:
        """Show the reply as it grows, until it is made."""
        await asyncio.wait({running.done}, timeout=QUICK_S)
        while not running.done.done():
            showing = asyncio.create_task(self._show(tidy(running.text)))
            try:
                either: list[asyncio.Future[Any]] = [running.done, showing]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if running.done.done() and self.draft_id is not None:
                    return  # a draft on a slow way must not keep the reply waiting
                # An edit must be through: it would come after the whole text and take its place.
                await showing
            except Undeliverable:
                if self.draft_id is None:
                    return
                self.draft_id = None  # the server knows no drafts, or not here: edits then
            finally:
                if not showing.cancel() and not showing.cancelled():
                    showing.exception()  # looked at, else asyncio complains
            await asyncio.wait({running.done}, timeout=TICK_S)

    async def finish(self, text: str, markup: InlineKeyboardMarkup | None) -> int:
        """Deliver the whole text -> id of its last message. Raises Undeliverable."""
        if self.message_id is not None:
            return await self.delivery.replace(self.chat, self.message_id, text, markup)
        return await self.delivery.send(self.chat, text, markup=markup, reply_to=self.reply_to)

    async def take_away(self) -> None:
        """Delete what was shown by edits, since nothing will take its place; a draft goes by itself."""
        message_id = self.message_id
        if message_id is None:
            return

        async def make(chat_id: int) -> bool:
            return await self.delivery.bot.delete_message(chat_id, message_id)

        with contextlib.suppress(Undeliverable):
            await self.delivery.insist(self.chat.chat_id, make)

    async def _show(self, text: str) -> None:
        if not is_visible(text):
            await self._type()
        elif text != self._shown:
            text = text if len(text) < MAX_LENGTH else "…" + text[-MAX_LENGTH + 2 :]
            shown = await (self._draft(text) if self.draft_id is not None else self._edit(text))
            self._shown = text if shown else self._shown

    async def _type(self) -> None:
        if time.monotonic() < self._typing_at:
            return
        self._typing_at = time.monotonic() + TYPING_S
        thread_id = self.chat.thread_id or None

        async def make(chat_id: int) -> bool:
            return await self.delivery.bot.send_chat_action(chat_id, ChatAction.TYPING, message_thread_id=thread_id)

        with contextlib.suppress(Undeliverable):
            await self.delivery.try_once(self.chat.chat_id, make)

    async def _draft(self, text: str) -> bool:
        async def make(chat_id: int) -> bool:
            assert self.draft_id is not None
            return await self.delivery.bot.send_message_draft(
                chat_id, self.draft_id, text, message_thread_id=self.chat.thread_id or None
            )

        return bool(await self.delivery.try_once(self.chat.chat_id, make))

    async def _edit(self, text: str) -> bool:
        async def begin(chat_id: int) -> int:
            sent = await self.delivery.bot.send_message(
                chat_id,
                text,
                message_thread_id=self.chat.thread_id or None,
                reply_to_message_id=self.reply_to,
                allow_sending_without_reply=True,
                reply_markup=STOP_BUTTON,
            )
            return sent.message_id

        async def go_on(chat_id: int) -> bool:
            await self.delivery.bot.edit_message_text(text, chat_id, self.message_id, reply_markup=STOP_BUTTON)
            return True

        if self.message_id is None:
            self.message_id = await self.delivery.try_once(self.chat.chat_id, begin)
            return self.message_id is not None
        return bool(await self.delivery.try_once(self.chat.chat_id, go_on))


STOP_BUTTON = InlineKeyboardMarkup([[InlineKeyboardButton(es.BUTTON_STOP, callback_data=STOP_DATA)]])

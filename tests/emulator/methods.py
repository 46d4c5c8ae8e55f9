"""The methods of the Bot API that write to chats: parameters -> result, or ApiError."""

from __future__ import annotations

import time
from typing import Any

from tests.emulator.parameters import Parameters, bad_request
from tests.emulator.record import buttons
from tests.emulator.text_rules import MAX_CAPTION, MAX_TEXT, clean_markup, clean_text
from tests.emulator.world import Chat, User, World

NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as a current "
    "content and reply markup of the message"
)
ACTIONS = {
    "typing",
    "upload_document",
    "upload_photo",
    "record_voice",
    "upload_voice",
    "choose_sticker",
    "find_location",
}


class ChatMethods:
    """sendMessage and its family, on the chats of one world."""

    def __init__(self, world: World, me: User) -> None:
        self.world = world
        self.me = me
        self.table = {
            "sendMessage": self.send_message,
            "sendMessageDraft": self.send_message_draft,
            "sendDocument": self.send_document,
            "editMessageText": self.edit_message_text,
            "editMessageReplyMarkup": self.edit_message_reply_markup,
            "deleteMessage": self.delete_message,
            "sendChatAction": self.send_chat_action,
            "setMessageReaction": self.set_message_reaction,
        }

    def send_message(self, params: Parameters) -> dict[str, Any]:
        chat = self.world.find(params.int("chat_id"))
        fields = clean_text(params, "text", MAX_TEXT) | clean_markup(params) | self._reply_fields(chat, params)
        return chat.add(self.me.as_json(), fields)

    def send_message_draft(self, params: Parameters) -> bool:
        """A preview that is gone after 30 s: checked, and recorded by the caller."""
        chat = self.world.find(params.int("chat_id"))
        if chat.type != "private":
            raise bad_request("can't send message drafts to the chat")
        if params.int("draft_id") == 0:
            raise bad_request("draft_id must be non-zero")
        clean_text(params, "text", MAX_TEXT, may_be_empty=True)
        self._reply_fields(chat, params)
        return True

    def send_document(self, params: Parameters) -> dict[str, Any]:
        chat = self.world.find(params.int("chat_id"))
        if not params.files:
            raise bad_request("there is no document in the request")
        name, content = next(iter(params.files.values()))
        if not content:
            raise bad_request("file must be non-empty")
        fields = clean_text(params, "caption", MAX_CAPTION, may_be_empty=True)
        document = {
            "file_id": f"doc{time.time_ns()}",
            "file_unique_id": "u",
            "file_name": name,
            "file_size": len(content),
        }
        fields |= {"document": document} | clean_markup(params) | self._reply_fields(chat, params)
        return chat.add(self.me.as_json(), fields)

    def edit_message_text(self, params: Parameters) -> dict[str, Any]:
        message = self._own(params)
        new = clean_text(params, "text", MAX_TEXT) | clean_markup(params)
        return self._change(message, new, ("text", "entities", "reply_markup"))

    def edit_message_reply_markup(self, params: Parameters) -> dict[str, Any]:
        return self._change(self._own(params), clean_markup(params), ("reply_markup",))

    def delete_message(self, params: Parameters) -> bool:
        chat = self.world.find(params.int("chat_id"))
        if chat.messages.pop(params.int("message_id"), None) is None:
            raise bad_request("message to delete not found")
        return True

    def send_chat_action(self, params: Parameters) -> bool:
        self.world.find(params.int("chat_id"))
        if params.text("action") not in ACTIONS:
            raise bad_request("wrong parameter action in request")
        return True

    def set_message_reaction(self, params: Parameters) -> bool:
        chat = self.world.find(params.int("chat_id"))
        if params.int("message_id") not in chat.messages:
            raise bad_request("message to react not found")
        return True

    def _own(self, params: Parameters) -> dict[str, Any]:
        """The bot's message that a call wants to change."""
        chat = self.world.find(params.int("chat_id"))
        message = chat.messages.get(params.int("message_id"))
        if message is None:
            raise bad_request("message to edit not found")
        if message.get("from", {}).get("id") != self.me.id:
            raise bad_request("message can't be edited")
        return message

    @staticmethod
    def _change(message: dict[str, Any], new: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        old_buttons, new_buttons = buttons(message.get("reply_markup")), buttons(new.get("reply_markup"))
        if old_buttons == new_buttons and all(
            message.get(name) == new.get(name) for name in names if name != "reply_markup"
        ):
            raise bad_request(NOT_MODIFIED)
        for name in names:
            message.pop(name, None)
        message |= new
        message["edit_date"] = int(time.time())
        return message

    @staticmethod
    def _reply_fields(chat: Chat, params: Parameters) -> dict[str, Any]:
        reply = params.json("reply_parameters") or {}
        reply_to = reply.get("message_id") or params.int("reply_to_message_id") or None
        optional = reply.get("allow_sending_without_reply") or params.flag("allow_sending_without_reply")
        if reply_to is not None and reply_to not in chat.messages and not optional:
            raise bad_request("message to be replied not found")
        thread = params.int("message_thread_id") or None
        if thread is not None and thread not in chat.threads:
            raise bad_request("message thread not found")
        return chat.reply_fields(reply_to, thread)

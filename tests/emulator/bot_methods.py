"""The methods of the Bot API about the bot itself: who it is, its commands, its webhook, its callback queries."""

from __future__ import annotations

import re
import time
from typing import Any

from tests.emulator.parameters import Parameters, bad_request
from tests.emulator.updates import Updates
from tests.emulator.webhook import Webhook
from tests.emulator.world import User, World

CALLBACK_LIFETIME_S = 150.0
QUERY_TOO_OLD = "query is too old and response timeout expired or query ID is invalid"
_COMMAND = re.compile(r"[a-z0-9_]{1,32}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")


class BotMethods:
    def __init__(self, world: World, me: User, updates: Updates, webhook: Webhook) -> None:
        self.world = world
        self.me = me
        self.updates = updates
        self.webhook = webhook
        self.commands: dict[str, list[dict[str, str]]] = {}  # by scope and language
        self.queries: dict[str, float] = {}  # callback query id -> monotonic
        self.table = {
            "getMe": self.get_me,
            "getChat": self.get_chat,
            "getChatMember": self.get_chat_member,
            "setMyCommands": self.set_my_commands,
            "getMyCommands": self.get_my_commands,
            "deleteMyCommands": self.delete_my_commands,
            "answerCallbackQuery": self.answer_callback_query,
            "setWebhook": self.set_webhook,
            "deleteWebhook": self.delete_webhook,
            "getWebhookInfo": self.get_webhook_info,
        } | dict.fromkeys(
            ("setMyDescription", "setMyShortDescription", "setMyName", "setChatMenuButton", "logOut", "close"),
            lambda params: True,
        )

    def get_me(self, params: Parameters) -> dict[str, Any]:
        flags = {"can_join_groups": True, "can_read_all_group_messages": True, "supports_inline_queries": False}
        return self.me.as_json() | flags

    def get_chat(self, params: Parameters) -> dict[str, Any]:
        gifts = dict.fromkeys(
            ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels"), False
        )
        chat = self.world.find(params.int("chat_id"))
        return chat.as_json() | {"accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": gifts}

    def get_chat_member(self, params: Parameters) -> dict[str, Any]:
        self.world.find(params.int("chat_id"))
        user_id = params.int("user_id")
        return {"status": "member", "user": {"id": user_id, "is_bot": user_id == self.me.id, "first_name": "Alguien"}}

    def set_my_commands(self, params: Parameters) -> bool:
        commands = params.json("commands") or []
        if len(commands) > 100:
            raise bad_request("BOT_COMMANDS_TOO_MUCH")
        scope = params.json("scope") or {}
        if "chat_id" in scope:
            self.world.find(int(scope["chat_id"]))
        for command in commands:
            if not _COMMAND.fullmatch(command["command"]):
                raise bad_request("BOT_COMMAND_INVALID")
            if not 1 <= len(command["description"]) <= 256:
                raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
        self.commands[_scope(params)] = commands
        return True

    def get_my_commands(self, params: Parameters) -> list[dict[str, str]]:
        return self.commands.get(_scope(params), [])

    def delete_my_commands(self, params: Parameters) -> bool:
        self.commands.pop(_scope(params), None)
        return True

    def answer_callback_query(self, params: Parameters) -> bool:
        asked = self.queries.get(params.text("callback_query_id"))
        if asked is None or time.monotonic() - asked > CALLBACK_LIFETIME_S:
            raise bad_request(QUERY_TOO_OLD)
        if len(params.text("text")) > 200:
            raise bad_request("MESSAGE_TOO_LONG")
        return True

    def set_webhook(self, params: Parameters) -> bool:
        url, secret = params.text("url"), params.text("secret_token")
        if not url:
            return self.delete_webhook(params)
        if secret and not _SECRET.fullmatch(secret):
            raise bad_request("secret token contains unallowed characters")
        self._forget_if_asked(params)
        self.updates.allow(params.json("allowed_updates"))
        self.webhook.begin(url, secret)
        return True

    def delete_webhook(self, params: Parameters) -> bool:
        self._forget_if_asked(params)
        self.webhook.end()
        return True

    def get_webhook_info(self, params: Parameters) -> dict[str, Any]:
        info: dict[str, Any] = {
            "url": self.updates.webhook_url,
            "has_custom_certificate": False,
            "pending_update_count": self.updates.num_pending(),
        }
        if self.webhook.last_error:
            info |= {"last_error_date": int(time.time()), "last_error_message": self.webhook.last_error}
        return info

    def _forget_if_asked(self, params: Parameters) -> None:
        if params.flag("drop_pending_updates"):
            self.updates.drop_pending()


def _scope(params: Parameters) -> str:
    scope = params.json("scope") or {"type": "default"}
    return " ".join(str(value) for value in (*scope.values(), params.text("language_code"))).strip()

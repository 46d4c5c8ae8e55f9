"""One call of the bot from the HTTP request to the answer: token, faults, flood control, the method, the record."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.emulator.bot_methods import BotMethods
from tests.emulator.faults import STATUS, Fault, Faults, broken_answer, too_many_requests
from tests.emulator.flood import LIMITED, Flood
from tests.emulator.http_server import Request, Response
from tests.emulator.methods import ChatMethods
from tests.emulator.parameters import ApiError, Parameters
from tests.emulator.record import Record, Sent, buttons
from tests.emulator.updates import Updates
from tests.emulator.webhook import Webhook
from tests.emulator.world import User, World

_PATH = re.compile(r"/bot(?P<token>[^/]+)/(?P<method>\w+)")
_TOKEN = re.compile(r"\d+:[\w-]+")


class Api:
    """The state of "Telegram" for one bot, and the handler of its calls. Everything runs in one event loop."""

    def __init__(self, token: str, username: str, changed: Callable[[], None], flood: bool) -> None:
        self.token = token
        self.me = User(int(token.partition(":")[0]), "Tertulia", username, is_bot=True, language_code=None)
        self.world = World()
        self.updates = Updates(changed)
        self.record = Record(changed)
        self.faults = Faults()
        self.webhook = Webhook(self.updates)
        self.bot = BotMethods(self.world, self.me, self.updates, self.webhook)
        self._flood = Flood() if flood else None
        self._methods: dict[str, Callable[[Parameters], Any]] = self.bot.table | ChatMethods(self.world, self.me).table
        self._names = {name.lower(): name for name in (*self._methods, "getUpdates")}

    async def handle(self, request: Request) -> Response | None:
        found = _PATH.fullmatch(request.path.partition("?")[0])
        if not found or not _TOKEN.fullmatch(found["token"]):
            return _refusal(ApiError(404, "Not Found"))
        if found["token"] != self.token:
            return _refusal(ApiError(401, "Unauthorized"))
        method = self._names.get(found["method"].lower(), found["method"])
        try:
            params = Parameters.of(request)
        except ApiError as error:
            self._note(method, Parameters({}), error.status, error=error)
            return _refusal(error)
        return await self._call(method, params, request)

    async def _call(self, method: str, params: Parameters, request: Request) -> Response | None:
        """What the call comes to, with the fault that it meets, recorded."""
        fault: Fault | None = None
        try:
            chat_id = _chat_id(params)
            if method in LIMITED:
                self.faults.check_ban(chat_id)
            fault = self.faults.take(method, chat_id)
            kind = fault.kind if fault else ""
            if fault and (answer := self._refuse(fault, chat_id)):
                self._note(method, params, answer.status)
                return answer
            if kind == "cut_before":
                self._note(method, params, 0)
                return None
            if fault and kind == "slow":
                await asyncio.sleep(fault.seconds)
            if kind == "forget_offset":
                self.updates.forget_confirmed()
                params.values["offset"] = 0
            result = await self._do(method, params, request, chat_id)
        except ApiError as error:
            self._note(method, params, error.status, error=error)
            return _refusal(error)
        self._note(method, params, 0 if kind == "cut_after" else 200, result=result)
        if fault and kind == "slow_after":
            await asyncio.sleep(fault.seconds)
        return None if kind == "cut_after" else _answer(200, {"ok": True, "result": result})

    def _refuse(self, fault: Fault, chat_id: int | None) -> Response | None:
        """The answer of a fault that keeps the call from being done, if it is of that kind."""
        if fault.kind == "429":
            if fault.method in LIMITED or fault.method == "*":
                self.faults.ban(chat_id if fault.chat_id is not None else None, fault.retry_after)
            raise too_many_requests(fault.retry_after)
        if fault.kind in STATUS:
            raise ApiError(int(fault.kind), STATUS[fault.kind])
        return broken_answer(fault.kind) if fault.kind in ("502", "bad_json") else None

    async def _do(self, method: str, params: Parameters, request: Request, chat_id: int | None) -> Any:
        if method == "getUpdates":
            return await self.updates.poll(request, params)
        if method not in self._methods:
            raise ApiError(404, "Not Found: method not found")
        if self._flood is not None and chat_id is not None:
            self._flood.count(method, chat_id, chat_id < 0)
        return self._methods[method](params)

    def _note(
        self, method: str, params: Parameters, status: int, result: Any = None, error: ApiError | None = None
    ) -> None:
        call = Sent(
            method=method,
            params=params.values,
            at=time.monotonic(),
            status=status,
            applied=result is not None,
            chat_id=_chat_id(params, strict=False),
            text=params.text("text") or params.text("caption"),
            description=error.description if error else "",
        )
        if isinstance(result, dict) and "message_id" in result:
            name, content = next(iter(params.files.values()), (None, None))
            call = replace(
                call,
                message_id=result["message_id"],
                thread_id=result.get("message_thread_id"),
                reply_to=result.get("reply_to_message", {}).get("message_id"),
                text=result.get("text") or result.get("caption", ""),
                buttons=buttons(result.get("reply_markup")),
                file=content,
                file_name=name,
            )
        self.record.add(call)


def _chat_id(params: Parameters, strict: bool = True) -> int | None:
    if "chat_id" not in params.values:
        return None
    try:
        return params.int("chat_id")
    except ApiError:
        if strict:
            raise ApiError(400, "Bad Request: chat not found") from None
        return None


def _answer(status: int, fields: dict[str, Any]) -> Response:
    return Response(status, json.dumps(fields).encode())


def _refusal(error: ApiError) -> Response:
    fields: dict[str, Any] = {"ok": False, "error_code": error.status, "description": error.description}
    if error.parameters:
        fields["parameters"] = error.parameters
    return _answer(error.status, fields)

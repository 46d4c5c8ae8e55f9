"""The parameters of a Bot API call, from a query, a form, a multipart body or JSON, read as Telegram reads them."""

from __future__ import annotations

import json
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.emulator.http_server import Request


class ApiError(Exception):
    """A refusal, as the Bot API words it."""

    def __init__(self, status: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.status = status
        self.description = description
        self.parameters = parameters


def bad_request(description: str, **parameters: int) -> ApiError:
    return ApiError(400, f"Bad Request: {description}", **parameters)


class Parameters:
    """Values by name; each getter refuses what the Bot API refuses."""

    def __init__(self, values: dict[str, Any], files: dict[str, tuple[str, bytes]] | None = None) -> None:
        self.values = values
        self.files = files or {}  # field -> (file name, content)

    @classmethod
    def of(cls, request: Request) -> Parameters:
        values: dict[str, Any] = {}
        files: dict[str, tuple[str, bytes]] = {}
        kind = request.headers.get("content-type", "")
        try:
            values |= parse_qsl(urlsplit(request.path).query, keep_blank_values=True, errors="strict")
            if kind.startswith("application/json"):
                values |= json.loads(request.body or b"{}")
            elif kind.startswith("multipart/form-data"):
                for part in _parts(kind, request.body):
                    name = str(part.get_param("name", header="content-disposition"))
                    content = part.get_payload(decode=True)
                    assert isinstance(content, bytes)
                    if part.get_filename() is not None:
                        files[name] = (str(part.get_filename()), content)
                    else:
                        values[name] = content.decode()
            else:
                values |= parse_qsl(request.body.decode(), keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise bad_request("strings must be encoded in UTF-8") from None
        except ValueError:
            raise bad_request("can't parse the request") from None
        return cls(values, files)

    def text(self, name: str) -> str:
        value = self.values.get(name, "")
        return value if isinstance(value, str) else json.dumps(value)

    def int(self, name: str, default: int = 0) -> int:
        value = self.values.get(name, default)
        try:
            return int(value)
        except (TypeError, ValueError):
            raise bad_request(f"invalid {name} specified") from None

    def flag(self, name: str) -> bool:
        return str(self.values.get(name, "")).lower() in ("true", "1", "yes")

    def json(self, name: str) -> Any:
        """The value of a field that is JSON inside the form; None if it is not there or empty."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            return value or None
        try:
            return json.loads(value)
        except ValueError:
            raise bad_request(f"can't parse {name} JSON object") from None


def _parts(kind: str, body: bytes) -> list[EmailMessage]:
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    return list(message.iter_parts())  # type: ignore[attr-defined]

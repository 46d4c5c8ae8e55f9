"""What the bot writes in its log: ids, class names and durations; never a text that a person wrote, never the token.

Always: of other libraries' records only the template is written, without its arguments, since these hold request
bodies, replies and addresses with the token; of an exception only the classes and where it was raised, since its
message may quote a text; and whatever looks like a token is struck out of every line.
"""

import logging
import re
import sys
import threading
import traceback
from collections.abc import Sequence
from types import TracebackType

OWN = ("bot", "training", "model")
STRUCK = "[token]"
_TOKEN = re.compile(r"\d{5,}(?::|%3A)[A-Za-z0-9_-]{20,}", re.IGNORECASE)


class RedactingFormatter(logging.Formatter):
    """Lines `time level logger message`, made so that they can be shown to anyone."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.secrets = [secret for secret in secrets if secret]

    def format(self, record: logging.LogRecord) -> str:
        # A copy: another handler of the same record gets it as it was.
        record = logging.makeLogRecord(record.__dict__)
        if record.name.partition(".")[0] not in OWN:
            record.msg, record.args = self._template(record), None
        record.exc_text = None
        return self.strike(super().format(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Frames and classes, without messages."""
        error = ei[1] if isinstance(ei, tuple) else None
        return "\n".join(_outline(error)) if isinstance(error, BaseException) else ""

    def strike(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, STRUCK)
        return _TOKEN.sub(STRUCK, text)

    @staticmethod
    def _template(record: logging.LogRecord) -> str:
        """The message as it stands in the library's source; one put together before logging is not known, so left out.

        A template with arguments is a constant; so is a message without any in which nothing can have been put.
        """
        if record.args:
            return str(record.msg)
        return f"(a message of {record.module}:{record.lineno})"


def set_up_redacted_logging(level: str, secrets: Sequence[str]) -> None:
    """The root logger on stderr through the formatter; exceptions that nobody caught go the same way."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    if level != "debug":
        logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request
    logger = logging.getLogger("bot")

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.critical("ended by %s", kind.__name__, exc_info=(kind, error, trace))

    sys.excepthook = uncaught
    threading.excepthook = lambda args: logger.error(
        "a thread ended by %s", args.exc_type.__name__, exc_info=args.exc_value
    )


def _outline(error: BaseException, depth: int = 0) -> list[str]:
    lines: list[str] = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < 5:
        lines += [*_outline(cause, depth + 1), "then:"]
    for frame in traceback.extract_tb(error.__traceback__):
        lines.append(f"  {frame.filename}:{frame.lineno} in {frame.name}")
    lines.append(type(error).__name__)
    return lines

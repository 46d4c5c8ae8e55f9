"""Times as people write them: 90s, 30m, 2h, 7d."""

import re

from bot.errors import BotError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str, option: str) -> float:
    """Seconds. Raises BotError naming the option."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise BotError(f"{option} is {text!r}: expected a number with s, m, h or d behind it, for instance 30m or 7d")
    return float(found[1]) * UNITS[found[2]]

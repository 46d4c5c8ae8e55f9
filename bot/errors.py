"""The errors of `bot`: what a setting or an option can do wrong. One line each, for people."""


class BotError(Exception):
    """Base of all errors that `bot` raises for bad input; the message names the thing, the value and the next step."""


class SettingsError(BotError):
    """A setting, from the environment, .env or an option, has a wrong name or value."""

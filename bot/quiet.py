"""What a command writes on stderr beside its errors: our own log, and none of the libraries' chatter."""

import logging
import warnings


def set_up_logging(level: str) -> None:
    """Our log on stderr, from this level up."""
    logging.basicConfig(level=level.upper(), format="%(levelname)s %(name)s: %(message)s")


def quiet_libraries() -> None:
    """For commands only, never at import: a program that uses the packages keeps its own settings."""
    warnings.simplefilter("ignore")
    for name in ("torch", "transformers", "peft", "bitsandbytes", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()

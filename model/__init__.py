"""The 8-bit Spanish GPT-J: format, layers, model, tokenizer, conversation and engine.

Names are handed out lazily, so that `import model` costs nothing and torch is imported only where it is used.
"""

from importlib import import_module

_HOMES = {
    "GPTJ8bitConfig": "model.gptj",
    "GPTJ8bitForCausalLM": "model.gptj",
    "GPTJ8bitForSequenceClassification": "model.classification",
    "Tokenizer": "model.tokenizer",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'model' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

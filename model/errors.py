"""The errors of `model`: what a file, a name or a prompt can do wrong. One line each, for people."""


class ModelError(Exception):
    """Base of the errors that `model` raises for bad input; each names the thing, the value and the next step."""


class CheckpointError(ModelError):
    """A checkpoint, or one tensor or file of it, is not what its config implies."""


class TokenizerError(ModelError):
    """A folder's tokenizer is missing or not one of the two kinds that are read."""


class PromptTooLong(ModelError):
    """The last turn alone does not fit into the model's context."""


class EngineBusy(ModelError):
    """More replies are waiting than the engine takes on."""


class HubError(ModelError):
    """A model name cannot be resolved to a folder: unknown, or there is no network."""

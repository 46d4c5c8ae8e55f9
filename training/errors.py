"""The errors of `training`: what the log of dialogues and the learning from it can meet. One line each, for people."""


class TrainingError(Exception):
    """Base of the errors that `training` raises; each names the thing, the value and the next step."""


class LogError(TrainingError):
    """The log of dialogues cannot be opened, read or written; what was asked has not happened, so it may be retried."""


class LogCompactionError(LogError):
    """Rows are erased, but their bytes could not be driven out of the files yet; asking again finishes it."""


class UnstorableError(TrainingError):
    """A value is larger than any that the log can hold; to try again does not help."""


class Forgotten(TrainingError):
    """The person was forgotten while the reply was made: neither the message nor the reply may be stored any more."""


class NothingToReplace(TrainingError):
    """A reply was to take the place of the last one, and the conversation has none, or has gone on meanwhile."""


class DialogueFileError(TrainingError):
    """A file of dialogues is not what an import takes."""


class TuneError(TrainingError):
    """A training run cannot begin, go on or write what it made; what was written before stays usable."""


class RegistryError(TrainingError):
    """The registry of adapters has no such adapter, or does not do what was asked of it."""


class RegistryBusy(RegistryError):
    """Somebody else holds the registry's lock."""


class DataError(TrainingError):
    """Data for training cannot be read, or nothing of it is left to train on; a file and line are named."""


class RunError(TrainingError):
    """A training run cannot be begun, gone on with or found."""

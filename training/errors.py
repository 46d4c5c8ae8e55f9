"""The errors of `training`: what the log of dialogues and the learning from it can meet. One line each, for people."""


class TrainingError(Exception):
    """Base of the errors that `training` raises; each names the thing, the value and the next step."""


class LogError(TrainingError):
    """The log of dialogues cannot be opened, read or written; what was asked has not happened, so it may be retried."""


class LogCompactionError(LogError):
    """Rows are erased, but their bytes could not be driven out of the files yet; asking again finishes it."""


class NothingToReplace(TrainingError):
    """A reply was to take the place of the last one, and the conversation has none."""


class DialogueFileError(TrainingError):
    """A file of dialogues is not what an import takes."""

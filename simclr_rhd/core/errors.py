"""Exceptions whose message is for the user."""

OUT_OF_MEMORY_MESSAGES = ("allocate memory", "out of memory", "bad_alloc", "bad alloc", "start new thread")


class UserError(Exception):
    """Bad arguments or unusable input; the message says what, where, and what to do. Exit status 2."""


class MissingColumnsError(UserError):
    """A table that lacks columns.

    Attributes:
        missing: their names.
    """

    def __init__(self, missing: list[str], message: str) -> None:
        super().__init__(message)
        self.missing = missing


class ErrorOfAllRanks(UserError):
    """A `UserError` of one process of a run, which all its processes raise; the message names the process."""


class RankLost(Exception):
    """Another process of this run went away."""


def reason_of(error: Exception) -> str:
    """Return the text of an error in brackets, with a space before; "" if it is a mere number or index."""
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        return f" ({error.args[0][:200]!r} is missing)"
    if isinstance(error, KeyError | IndexError):
        return ""
    return f" ({' '.join(str(error).split())[:200] or type(error).__name__})"


def is_out_of_memory(error: Exception) -> bool:
    """Return True if an error means that no memory is left; PyTorch has it only in its message."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in message for sign in OUT_OF_MEMORY_MESSAGES)
    )

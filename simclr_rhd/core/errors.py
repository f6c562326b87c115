"""Exceptions whose message is for the user."""

OUT_OF_MEMORY_MESSAGES = ("allocate memory", "out of memory", "bad_alloc", "bad alloc", "start new thread")


class UserError(Exception):
    """Bad arguments or unusable input; the message says what, where, and what to do. Exit status 2."""


class RankLost(Exception):
    """Another process of this run went away."""


def is_out_of_memory(error: Exception) -> bool:
    """Return True if an error means that no memory is left; PyTorch has it only in its message."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in message for sign in OUT_OF_MEMORY_MESSAGES)
    )

"""The two exceptions that are told in the user's words."""


class UserError(Exception):
    """Bad arguments or unusable input; the message says what, where, and what to do. Exit status 2."""


class RankLost(Exception):
    """Another process of this run went away."""

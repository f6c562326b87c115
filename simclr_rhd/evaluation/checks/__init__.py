"""Checks of the data behind the scores: leaks between parts, shortcuts, subgroups."""

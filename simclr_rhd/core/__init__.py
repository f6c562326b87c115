"""Foundations of all rooms: errors, files, texts, processes, devices."""

__version__ = "0.1.0"

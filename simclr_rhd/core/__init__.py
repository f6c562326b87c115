"""Foundations of all rooms: errors, files, texts, processes, devices."""

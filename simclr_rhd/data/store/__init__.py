"""Decoded frames on disk."""

"""Memory, time and settings before a run."""

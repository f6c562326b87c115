"""The summary of a run's data: counts, sentences, tables."""

"""Scores of predictions: per frame, video and patient, with intervals over groups."""

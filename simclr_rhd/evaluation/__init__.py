"""Scores, intervals, calibration, leakage."""

"""Measures of the encoder while it trains."""

"""A model as a screening test: thresholds, rates, decision curves."""

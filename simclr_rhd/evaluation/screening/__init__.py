"""What a model would do as a screening test."""

"""A trained model on new frames and clips."""

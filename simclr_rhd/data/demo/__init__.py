"""Built-in synthetic data."""

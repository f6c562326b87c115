"""What is measured of the encoder while it trains."""

"""Groups, and the parts that they are divided into."""

"""Where files lie: a folder, a bucket, the built-in demo."""

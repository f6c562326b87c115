"""The sources of files: a folder, a bucket, the built-in demo."""

"""The folder of a run: checkpoints, locks, records, the copy in a bucket."""

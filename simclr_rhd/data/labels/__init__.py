"""Label tables, classes, annotators, patients."""

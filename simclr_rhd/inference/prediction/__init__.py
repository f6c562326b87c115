"""Files in, predictions out: tables, summary, pages."""

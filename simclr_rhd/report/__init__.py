"""Charts, pages, the comparison of runs, the model card."""

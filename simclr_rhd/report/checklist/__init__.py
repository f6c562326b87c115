"""`checklist.md`: the items of three reporting guidelines, filled from a run as far as it knows."""

"""What administrators do to the whole: generations of the index, reconciling, replaying what has failed."""

"""Work that is done once: answers that are replayed, calls that are joined, similar questions."""

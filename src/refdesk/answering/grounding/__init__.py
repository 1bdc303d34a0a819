"""What a written sentence claims, and whether the passages that it cites bear it out."""

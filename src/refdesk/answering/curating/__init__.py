"""What curators see: feedback, and the gaps that questions without an answer show."""

"""Tokens and cost: reserved, settled, booked, and told."""

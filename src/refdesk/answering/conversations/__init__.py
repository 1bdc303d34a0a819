"""Conversations: the turns at hand for the next question, and the history that is kept for whoever asked."""

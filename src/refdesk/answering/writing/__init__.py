"""Answers by a language model: the prompt, one model or several in order, one call an attempt."""

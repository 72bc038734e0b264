"""Guesses about the decisive step of a failed run: rules, and language models as judges."""

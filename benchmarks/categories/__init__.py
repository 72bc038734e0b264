"""Sentences with labels, and how far the rules agree with them."""

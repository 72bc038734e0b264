"""Answers as text: numbers, units, options, comparison, where a text states one. Pure."""

"""Audits of failures whose decisive step is known."""

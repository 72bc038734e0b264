"""Reads the warehouse for people: typed results, terminal, report."""

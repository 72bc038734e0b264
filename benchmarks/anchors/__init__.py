"""Importances of sentences: their price in tokens, and whether their intervals cover."""

"""Recipes: `python -m pipelines.NAME CONFIG` runs a config of one study."""

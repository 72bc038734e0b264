"""Recipes: each wires sources, a method and the warehouse into one study."""

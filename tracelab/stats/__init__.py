"""Estimators' arithmetic: intervals, divergences, curves. Pure; arrays in, arrays out."""

"""Trains and measures the testbed's model."""

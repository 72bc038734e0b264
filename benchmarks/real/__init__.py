"""Figures on a small real model: language that nobody planted, questions that we wrote."""

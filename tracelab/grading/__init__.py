"""Outcomes: what a rollout is worth. `grader.Grader` is the door; `registry` lists the kinds.

docs/outcomes.md is for users; `rule` says what a kind is.
"""

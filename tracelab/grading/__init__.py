"""Outcome functions beyond finding an answer: user code, unit tests, an LLM judge, yes or no.

One kind a file. `tracelab.grading.grader.Grader` is the only caller; docs/outcomes.md is for users.
"""

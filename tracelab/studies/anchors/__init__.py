"""Thought anchors: which sentences of a chain of thought decided the answer? Pure."""

from tracelab.studies.anchors.study import Anchors as Anchors

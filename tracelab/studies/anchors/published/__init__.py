"""Other projects' numbers, computed as they compute them. Pure."""

from tracelab.studies.anchors.published import scores as scores

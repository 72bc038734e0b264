"""Context attribution: `study` is the plug-in."""

from tracelab.studies.cite import study as study

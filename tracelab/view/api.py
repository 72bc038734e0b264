"""The Python API: the three studies as functions, their results as typed values.

    data in memory, or a path ─► the config of the command ─► its run ─► warehouse ─► Result

Contract: a call does what the command of its name does, with the same options, and keeps what it
measured in the same home, so that SQL, the report and a later session find it there; asking again
costs nothing, asking for more pays for the difference. Works inside a running event loop, as in a
notebook. Whatever goes wrong on purpose is a `TracelabError` of one sentence; a record that cannot
be used is in the result's `rejects`. It knows nothing about terminals.
"""

import tracelab.view.results.html  # noqa: F401, registers how results are shown in a notebook
from tracelab.run.ingest import Ingested
from tracelab.view.loading import ingest
from tracelab.view.opening import Number, NumbersResult, open_run, run_config
from tracelab.view.results.result import Costs, Rejected, Result
from tracelab.view.results.sentences import Anchor, AnchorsResult, anchors
from tracelab.view.results.spans import CiteResult, Effect, Statement, cite
from tracelab.view.results.steps import AuditResult, AuditVerdict, NamedStep, StepScore, audit

__all__ = [
    "Anchor",
    "AnchorsResult",
    "AuditResult",
    "CiteResult",
    "Costs",
    "Effect",
    "Ingested",
    "NamedStep",
    "Number",
    "NumbersResult",
    "Rejected",
    "Result",
    "Statement",
    "StepScore",
    "AuditVerdict",
    "anchors",
    "audit",
    "cite",
    "ingest",
    "open_run",
    "run_config",
]

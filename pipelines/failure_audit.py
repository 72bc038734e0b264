"""Which step of a failed run of agents is to blame, and what would have helped?

    source ─► runs ─► recorded actions again ─► re-executions ─► corrections ─► opinions ─► verdicts

`python -m pipelines.failure_audit CONFIG`: `tracelab run` of a config whose study is `audit`.
Running it again finishes what is missing. What is asked, and in which order, is
`tracelab.studies.audit`.
"""

from tracelab.cli.app import run_module

if __name__ == "__main__":
    run_module("audit")

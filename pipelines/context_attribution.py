"""Which spans of the context is each statement of a response made of?

    source ─► contexts ─► responses ─► ablated prompts ─► log-probabilities ─► scores ─► warehouse

`python -m pipelines.context_attribution CONFIG`: `tracelab run` of a config whose study is `cite`.
Running it again finishes what is missing. What is asked, and in which order, is
`tracelab.studies.cite`.
"""

from tracelab.cli.app import run_module

if __name__ == "__main__":
    run_module("cite")

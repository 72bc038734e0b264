"""Which sentences of a chain of thought decided the answer?

    source ─► base traces ─► sentences ─► one scoring pass ─► rounds of rollouts ─► scores, links

`python -m pipelines.thought_anchors CONFIG`: `tracelab run` of a config whose study is `anchors`.
Running it again finishes what is missing. What is asked, and in which order, is
`tracelab.studies.anchors`.
"""

from tracelab.cli.app import run_module

if __name__ == "__main__":
    run_module("anchors")

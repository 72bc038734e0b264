"""What measures tracelab itself, and what trains and measures the testbed's model.

`python -m benchmarks` lists the benchmarks; what the README's figures come from is here.
"""

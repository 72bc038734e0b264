"""How often audits of failures with planted causes are right.

    python -m benchmarks.audit --seed 1 --json

The same as `tracelab bench audit`.
"""

from tracelab.cli.audit_bench import audit_bench

if __name__ == "__main__":
    audit_bench()

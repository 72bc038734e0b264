"""`python -m tests.fuzz [--seconds 300] [--seed N] [TARGET…]`: what `make fuzz` runs."""

from __future__ import annotations

import argparse
import random
import sys

from tests.fuzz.loop import fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz, and say what was found; 1 where something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    args = parser.parse_args()
    if unknown := [t for t in args.targets if t not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    seed = random.randrange(1 << 31) if args.seed is None else args.seed
    print(f"seed {seed}, {args.seconds:g} s", flush=True)
    found = fuzz(args.seconds, seed, args.targets)
    for name, tried in sorted(found.tried.items()):
        print(f"{tried:>8}  {name}")
    for name, file, how in found.crashes:
        print(f"\n{name}: {file} raises\n{how}")
    print(f"{found.tried.total()} inputs, {len(found.crashes)} targets crashed")
    return 1 if found.crashes else 0


if __name__ == "__main__":
    sys.exit(main())

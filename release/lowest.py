"""The lowest version that pyproject.toml allows of each dependency that is light to install.

`python -m release.lowest` prints them as pip takes them, one a line: `make test-lowest` installs
just these and runs the tests that need no engine. Engines (torch, transformers, ray) are left out:
their lowest versions are those that CI's own environment pins.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENGINES = {"torch", "transformers", "ray"}
TOOLS = {"pytest", "hypothesis", "pytest-timeout", "pytest-xdist"}
_BOUND = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")


def lowest() -> list[str]:
    """`name==version` of every light dependency, and of what the tests are run with.

    Raises:
        ValueError: A dependency has no lower bound.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    given = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    found = []
    for i, text in enumerate(given):
        bound = _BOUND.match(text)
        if i < len(project["dependencies"]) and bound is None:
            raise ValueError(f"{text!r} has no lower bound")
        if bound is None or bound[1] in ENGINES:
            continue
        if i < len(project["dependencies"]) or bound[1] in TOOLS:
            found.append(f"{bound[1]}=={bound[2]}")
    return found


if __name__ == "__main__":
    print("\n".join(lowest()))

"""`python -m benchmarks categories`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("categories", order=45)
@click.option("--published", type=click.Path(path_type=Path, exists=True, file_okay=False),
              metavar="DIR", help="Thought Anchors folders: hold the rules to their tags too.",
              )  # fmt: skip
def categories(published: Path | None) -> Figures:
    """How often the rules that label sentences agree with people, and with the published tags.

    Exit code 1 if they agree on fewer than three of four of the held-out sentences.

    \b
    Example:
      python -m benchmarks categories --json
    """
    from benchmarks.categories.agreement import BAR, agreement, labelled, show, tagged

    found = {split: agreement(labelled(split)) for split in ("dev", "held-out")}
    if published is not None:
        found["published"] = agreement(tagged(published))
    return Figures(dict(found), show, int(found["held-out"]["overall"] < BAR))

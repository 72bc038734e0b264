"""Which worker runs which tests, when several do (`make test`)."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class Together(LoadFileScheduling):
    """Those that share fixtures run one after another in one worker, the longest first.

    A file's do; those of the contract, and those of the real model, share their engines across
    files. Tests of statistics share nothing, and simulations are long: each goes to whoever is
    free.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        for folder in ("tests/contract/", "tests/real/"):
            if file.startswith(folder):
                return folder
        return nodeid if file.startswith("tests/stats/") else file

    def remove_node(self, node: WorkerController) -> str | None:
        """A worker that died costs the test that it died in, and no other.

        xdist would give out again what had passed and the test that killed it too, and then waits
        for ever for a worker that was given finished tests only.
        """
        work = self.assigned_work[node]
        owed = [[t for t, done in unit.items() if not done] for unit in work.values()]
        died_in = next((t for unit in owed for t in unit), None)
        for scope, tests in zip(work, owed, strict=True):
            left = {t: False for t in tests if t != died_in}
            if left:
                self.workqueue[scope] = left
        work.clear()
        super().remove_node(node)
        return died_in

    def schedule(self) -> None:
        """A worker begins its last test when it has been told of the next, or that there is none.

        A replacement is told of one unit only, which may be one test.
        """
        super().schedule()
        for node in self.nodes:
            self._reschedule(node)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first: at the end, it would leave a worker waiting."""
    engines = {
        i.path for i in items if i.get_closest_marker("engine") or i.get_closest_marker("real")
    }

    def rank(item: pytest.Item) -> int:
        return 0 if item.path in engines else 1 if item.get_closest_marker("slow") else 2

    items.sort(key=rank)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Only for `--dist loadfile`."""
    return Together(config, log) if config.getvalue("dist") == "loadfile" else None

"""The architecture, held: rooms in layers, no cycle, one name for one thing, nothing heavy early.

What still offends is listed here and may only become less: `ALLOWED_*` lists lose entries.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tracelab"
MODULES = sorted(PACKAGE.rglob("*.py"))

CORE = [
    "core.trace",
    "core.item",
    "core.finding",
    "core.flow",
    "text.segment",
    "text.categories",
    "stats.intervals",
    "stats.value_curve",
    "studies.anchors.resample",
    "studies.anchors.published.recipe",
]
HEAVY = ["torch", "vllm", "ray", "duckdb", "transformers", "pyarrow", "pandas", "statsmodels"]

MOST_MODULES = 15
"""More in one folder are a sign that a room is missing."""
ALLOWED_FOLDERS = {
    "core": 22,
    "run": 18,
    "store": 17,
    "studies/anchors": 21,
    "studies/cite": 19,
}
ALLOWED_CYCLES: set[str] = set()
ALLOWED_NAMES: set[str] = set()


@pytest.mark.parametrize("module", CORE)
def test_core_module_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, tracelab.{module}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_help_starts_without_heavy_imports() -> None:
    code = (
        "import sys\nfrom tracelab.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith("[]")


@pytest.mark.parametrize("contract", ["layers", "studies", "pure"])
def test_import_contract(contract: str) -> None:
    """See `[tool.importlinter]` in pyproject.toml."""
    tool = Path(sys.executable).with_name("lint-imports")
    command = [tool, "--contract", contract, "--no-cache"]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stdout


def cyclic(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that import each other, directly or not."""
    behind: dict[str, set[str]] = {}
    for start in graph:
        found, todo = set[str](), [start]
        while todo:
            new = graph[todo.pop()] - found
            found |= new
            todo += new
        behind[start] = found
    in_cycles = {m for m in graph if m in behind[m]}
    return list({frozenset(n for n in behind[m] if m in behind[n]): 0 for m in in_cycles})


def test_cycles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert cyclic(graph) == [{"b", "c"}]
    assert cyclic({"a": {"b"}, "b": set()}) == []


def import_graph() -> dict[str, set[str]]:
    """Who imports whom, imports inside functions included; those for types only are not."""
    graph = grimp.build_graph("tracelab", exclude_type_checking_imports=True, cache_dir=None)
    return {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}


def test_no_module_imports_itself_by_a_detour() -> None:
    """Lazy imports included: a cycle that is put off is a cycle."""
    new = [sorted(c) for c in cyclic(import_graph()) if not c <= ALLOWED_CYCLES]
    assert not new, "import cycles; break them rather than add to ALLOWED_CYCLES"


def public_classes() -> dict[str, list[str]]:
    """Where each public class of the package is defined, by name."""
    found = defaultdict(list)
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(PACKAGE)))
    return found


def test_a_public_class_has_a_name_of_its_own() -> None:
    twice = {n: where for n, where in public_classes().items() if len(where) > 1}
    new = {n: where for n, where in twice.items() if n not in ALLOWED_NAMES}
    assert not new, "one word, one meaning: two public classes share a name"


def test_no_module_has_the_name_of_its_folder() -> None:
    assert [p for p in MODULES if p.stem == p.parent.name] == []
    # Nor of a folder beside it, which it would hide or be hidden by.
    assert [p for p in MODULES if p.with_suffix("").is_dir()] == []


def folders() -> dict[str, int]:
    """Modules of each folder, its `__init__` and `__main__` apart."""
    found: dict[str, int] = defaultdict(int)
    for path in MODULES:
        if not path.stem.startswith("__"):
            found[str(path.parent.relative_to(PACKAGE))] += 1
    return found


def test_folders_are_rooms() -> None:
    large = {f: n for f, n in folders().items() if n > ALLOWED_FOLDERS.get(f, MOST_MODULES)}
    assert not large, f"more than {MOST_MODULES} modules: a room is missing"


def test_the_package_has_twelve_doors_and_no_loose_module() -> None:
    doors = {p.name for p in PACKAGE.iterdir() if p.is_dir() and list(p.glob("*.py"))}
    assert len(doors) <= 13  # and the testbed
    assert {p.name for p in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_what_offends_no_longer_is_no_longer_allowed() -> None:
    in_cycles = set().union(*cyclic(import_graph()))
    assert in_cycles >= ALLOWED_CYCLES, "no longer in a cycle"
    assert {n for n, where in public_classes().items() if len(where) > 1} >= ALLOWED_NAMES
    sizes = folders()
    assert {f for f, most in ALLOWED_FOLDERS.items() if sizes[f] < most or most <= 15} == set()


OUR_OWN_JSON = {
    # What we wrote ourselves and nobody else writes; each with where it comes from.
    "core/outside.py": "the door itself",
    "core/item.py": "an observation of our journal",
    "engines/chat/client.py": "a schema that a study made",
    "engines/chat/engine.py": "a schema that a study made",
    "engines/chat/request.py": "a request of our own, out of a prompt that we made",
    "engines/openai/engine.py": "a schema that a study made",
    "grading/function.py": "the trace that the grader sends to its own helper",
    "grading/helper.py": "requests of the grader, in its own child",
    "grading/jail.py": "requests of the grader, in its own child; imports nothing of ours",
    "run/ingest.py": "a config in our database",
    "view/results/frames.py": "columns of our database",
    "store/sealed.py": "files of our own, whose digests are checked first",
    "view/keys.py": "a value that was written out a moment before",
    "view/report/agents.py": "columns of our database",
    "view/report/runs.py": "columns of our database",
    "view/results/statements.py": "columns of our database",
    "view/results/steps.py": "columns of our database",
}
"""Modules that may decode JSON without `core.outside.decode`, and why."""
DECODERS = {
    "json.loads", "json.load", "json.JSONDecoder", "pydantic_core.from_json", "model_validate_json",
    "orjson.loads", "ujson.loads", "yaml.load", "pickle.loads", "pickle.load",
}  # fmt: skip


def decoders(source: str) -> set[str]:
    """Which calls of a module decode JSON by themselves, whatever they were imported as."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and names.get(node.id) in DECODERS:
            found.add(names[node.id])
        elif isinstance(node, ast.Attribute):
            of = node.value
            owner = names.get(of.id, of.id) if isinstance(of, ast.Name) else ""
            full = f"{owner}.{node.attr}"
            if full in DECODERS or node.attr in DECODERS:
                found.add(full)
            elif (
                node.attr == "json" and isinstance(of, ast.Name) and of.id in ("reply", "response")
            ):
                found.add(f"{of.id}.json")  # httpx decodes by itself
    return found


def test_decoders_are_found_under_other_names() -> None:
    assert decoders("import json as j\nj.loads(x)") == {"json.loads"}
    assert decoders("from json import loads as read\nread(x)") == {"json.loads"}
    assert decoders("reply.json()") == {"reply.json"}
    assert decoders("import m\nm.M.model_validate_json(x)") == {".model_validate_json"}
    assert decoders("import json\njson.dumps(x)") == set()


def test_json_from_outside_comes_through_one_door() -> None:
    """`tracelab.core.outside.decode` is called for all that others wrote."""
    found = {str(p.relative_to(PACKAGE)): decoders(p.read_text()) for p in MODULES}
    by_itself = {m for m, calls in found.items() if calls}
    assert by_itself - set(OUR_OWN_JSON) == set(), "decode JSON from outside with core.outside"
    assert set(OUR_OWN_JSON) - by_itself == set(), "no longer decodes: take it off the list"

"""A software bill of materials of a wheel: CycloneDX 1.6, as JSON.

`python -m release.sbom dist/tracelab-*.whl` prints it. It names the wheel and its hash, what the
wheel requires with the ranges it allows, and, of what is installed here, the versions that were
tried, what these require in turn, and their licences. The bundled model is a component too. Equal
wheels in equal environments give equal documents: no time, no random number.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import Any

_REQUIRED = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*([^;]*)")
_MODEL = re.compile(r"tracelab/testbed/model/.*\.safetensors")


def bill(wheel: Path) -> dict[str, Any]:
    """The bill of one wheel."""
    with zipfile.ZipFile(wheel) as z:
        name = next(n for n in z.namelist() if n.endswith(".dist-info/METADATA"))
        about = HeaderParser().parsestr(z.read(name).decode("utf-8"))
        models = [(n, hashlib.sha256(z.read(n)).hexdigest()) for n in z.namelist()
                  if _MODEL.fullmatch(n)]  # fmt: skip
    root = f"pkg:pypi/{_normal(about['Name'])}@{about['Version']}"
    ranges = dict(_needed(about.get_all("Requires-Dist") or ()))
    components, edges = _closure(ranges)
    itself = {
        "type": "application",
        "bom-ref": root,
        "name": about["Name"],
        "version": about["Version"],
        "purl": root,
        "licenses": [{"expression": about.get("License-Expression") or about["License"]}],
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
    }
    weights = [
        {"type": "machine-learning-model", "bom-ref": f"model:{n}", "name": Path(n).parent.name,
         "properties": [{"name": "file", "value": n}],
         "hashes": [{"alg": "SHA-256", "content": digest}]}
        for n, digest in models
    ]  # fmt: skip
    depends = {root: sorted([*map(_ref, ranges), *(f"model:{n}" for n, _ in models)])}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": itself},
        "components": [*components, *weights],
        "dependencies": [
            {"ref": ref, "dependsOn": on} for ref, on in sorted((depends | edges).items())
        ],
    }


def _closure(ranges: dict[str, str]) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Components of what is required, directly or not, and who requires whom."""
    components: dict[str, dict[str, Any]] = {}
    edges: dict[str, list[str]] = {}
    todo = sorted(ranges)
    while todo:
        name = todo.pop(0)
        if name in components:
            continue
        component: dict[str, Any] = {"type": "library", "bom-ref": _ref(name), "name": name}
        if name in ranges:
            wanted = [{"name": "range", "value": ranges[name] or "any"}]
            component["properties"] = wanted
        components[name] = component
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        component["version"] = found.version
        component["purl"] = f"pkg:pypi/{name}@{found.version}"
        if licence := found.metadata.get_all("License-Expression"):
            component["licenses"] = [{"expression": licence[0]}]
        needs = [n for n, _ in _needed(found.requires or ()) if _installed(n)]
        edges[_ref(name)] = sorted(_ref(n) for n in needs)
        todo += sorted(needs)
    return [components[name] for name in sorted(components)], edges


def _needed(given: Iterable[str]) -> list[tuple[str, str]]:
    """Names and ranges of requirements; those of extras are nobody's unless asked for."""
    parsed = [(_REQUIRED.match(text), text) for text in given if "extra ==" not in text]
    return [(_normal(found[1]), found[2].strip()) for found, _ in parsed if found is not None]


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _ref(name: str) -> str:
    return f"pypi:{name}"


if __name__ == "__main__":
    print(json.dumps(bill(Path(sys.argv[1])), indent=1))

"""Agent logs in the warehouse: steps as units, the whole episode in `extra`, all checks hold."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers import invoke, rows
from tracelab.core.episode import Episode


def test_a_folder_of_agent_logs(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    call = {"id": "c", "function": {"name": "get", "arguments": '{"id": '}}
    for i in range(20):
        messages = [
            {"role": "user", "content": f"Find {i}. \u0000 𝔘"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "assistant", "content": f"It is {i}."},
        ]
        (folder / f"{i}.json").write_text(
            json.dumps({"id": f"run-{i}", "messages": messages, "success": i % 2 == 0})
        )
    (folder / "empty.json").write_text(json.dumps({"messages": []}))
    result = invoke("ingest", folder, "--max-error-rate", "0.1")
    assert result.exit_code == 0, result.output
    units = rows("select * from units order by trace_id, unit_index")
    assert len(units) == 80 and {u["unit_kind"] for u in units} == {"step"}
    assert {u["segmenter"] for u in units} == {"steps-v1"}
    assert {u["category"] for u in units} == {None}, "categories are of reasoning"
    (reject,) = rows("select * from rejects")
    assert "no steps" in reject["reason"] and reject["file"].endswith("empty.json")
    (trace,) = rows("select * from traces where name = 'run-7'")
    episode = Episode.from_json(json.loads(trace["extra"])["episode"])
    assert trace["success"] is False and trace["n_units"] == 4
    assert [s.flags for s in episode.steps] == [
        ("binary",),
        ("invalid_arguments",),
        ("missing_result", "invalid_arguments"),
        (),
    ]
    assert episode.model_input(3) is not None
    assert invoke("check").exit_code == 0
    assert invoke("ingest", folder, "--max-error-rate", "0.1").exit_code == 0
    assert len(rows("from traces")) == 20

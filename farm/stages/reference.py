"""The reference stage: what ONNX Runtime makes in fp32 of the unclipped model on the run's inputs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from signal import SIGKILL
from typing import Any, Protocol
from urllib.parse import quote

from farm.domain.digest import digest
from farm.domain.errors import StageFailed
from farm.sdk.child import ChildResult, ChildSpec
from farm.stages.answers import no_answer, read_answer
from farm.stages.inputs import generate_inputs

#: Raised when this stage's own steps change what they write.
FORMAT = 1
INPUTS = "inputs"


class Launcher(Protocol):
    """Runs a child within its limits."""

    def run(self, spec: ChildSpec) -> ChildResult:
        """Starts the child and waits for its end."""


def reference_versions() -> dict[str, str]:
    """The versions that determine a reference's bytes."""
    return {name: version(name) for name in ("onnxruntime", "numpy")}


def reference_key(ask: Mapping[str, Any], export_key: str, versions: Mapping[str, str]) -> str:
    """The artifact key of a reference: {batch_size, seq_length, seed} on one export."""
    asked = {name: ask[name] for name in ("batch_size", "seq_length", "seed")}
    return "reference-" + digest(
        {"format": FORMAT, "export": export_key, **asked, "versions": dict(versions)}
    )


def output_file(name: str) -> str:
    """The file of an output: its name may hold `/` and anything else."""
    return quote(name, safe="") + ".npy"


def build_reference(
    ask: Mapping[str, Any],
    export_dir: Path,
    facts: Mapping[str, Any],
    out: Path,
    launcher: Launcher,
    log: Path,
    threads: int = 1,
    limit_s: float = 1800.0,
    memory_bytes: int | None = None,
) -> dict[str, Any]:
    """Writes `inputs/*.raw`, one `.npy` an output (see `output_file`) and `facts.json` in the folder `out`.

    export_dir holds the export's `model.onnx`, facts are the export's. Returns {"inputs", "outputs": [{name,
    file, dtype, dims}], "reference_s", "peak_rss_bytes"}. Raises StageFailed: "input" where ONNX Runtime
    refuses the model or a limit is passed, "host" when the child is killed.
    """
    batch, seq = ask["batch_size"], ask["seq_length"]
    files = generate_inputs(facts, batch, seq, ask["seed"], out / INPUTS)
    request = {
        "model": str((export_dir / "model.onnx").resolve()),
        "inputs": [
            {"name": f.name, "path": str(f.path.resolve()), "dtype": f.dtype, "dims": f.dims} for f in files
        ],
        "outputs": {port["name"]: output_file(port["name"]) for port in facts["outputs"]},
        "out": str(out.resolve()),
        "threads": threads,
    }
    request_file, answer_file = out / "request.json", out / "answer.json"
    request_file.write_text(json.dumps(request))
    result = launcher.run(
        ChildSpec(
            argv=[sys.executable, "-m", "farm.stages.reference_child", str(request_file), str(answer_file)],
            cwd=out,
            log=log,
            limit_s=limit_s,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            memory_bytes=memory_bytes,
        )
    )
    answer = _answer(result, answer_file, log)
    made = {
        "inputs": [
            {"name": f.name, "file": f"{INPUTS}/{f.path.name}", "dtype": f.dtype, "dims": f.dims}
            for f in files
        ],
        "outputs": answer["outputs"],
        "reference_s": round(result.seconds, 3),
        "peak_rss_bytes": result.peak_rss_bytes,
    }
    request_file.unlink()
    answer_file.unlink()
    (out / "facts.json").write_text(json.dumps(made, indent=1) + "\n")
    return made


def _answer(result: ChildResult, answer_file: Path, log: Path) -> dict[str, Any]:
    if result.ended in ("limit", "memory"):
        what = "time" if result.ended == "limit" else "memory"
        raise StageFailed(
            "input", f"the reference run passed its {what} limit after {result.seconds:.0f} s", str(log)
        )
    answer = read_answer(answer_file)
    if answer is None:
        raise StageFailed(
            "host",
            no_answer("the reference run", result),
            str(log),
            out_of_memory=result.signal == SIGKILL,
        )
    if "error" in answer:
        raise StageFailed(answer["kind"], answer["error"], str(log))
    if not result.ok:
        raise StageFailed("host", "the reference run answered but did not end well; see its log", str(log))
    return answer

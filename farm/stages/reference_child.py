"""The reference stage's child: feeds raw files to ONNX Runtime and writes what comes out."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

_MAX_ERROR_CHARS = 300


def compute(request: dict[str, Any]) -> dict[str, Any]:
    """Runs the model of `request` and returns the outputs' names, files, dtypes and dims."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    options.inter_op_num_threads = 1
    # Beside a measuring card no core may be burnt on waiting.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
    fed = {
        item["name"]: np.fromfile(item["path"], np.dtype(item["dtype"]).newbyteorder("<")).reshape(
            item["dims"]
        )
        for item in request["inputs"]
    }
    names = list(request["outputs"])
    outputs = []
    for name, value in zip(names, session.run(names, fed), strict=True):
        file = request["outputs"][name]
        np.save(Path(request["out"]) / file, value)
        outputs.append({"name": name, "file": file, "dtype": value.dtype.name, "dims": list(value.shape)})
    return {"outputs": outputs}


def main(argv: list[str]) -> int:
    """Arguments: the request file and where to write the answer."""
    request = json.loads(Path(argv[0]).read_text())
    status = 0
    try:
        answer = compute(request)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        traceback.print_exc()
        host = isinstance(error, (MemoryError, OSError)) or "Failed to allocate memory" in str(error)
        text = " ".join(f"ONNX Runtime cannot run the model: {error}".split())[:_MAX_ERROR_CHARS]
        answer, status = {"kind": "host" if host else "input", "error": text}, 1
    Path(argv[1]).write_text(json.dumps(answer))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The entry of every executable of an emulated root: notes the call, then runs the tool's module."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path

#: Program -> module of this package with `main(program, argv, root) -> exit status`.
MODULES = {
    "qaic-exec": "compiler",
    "qaic-compile": "compiler",
    "qaic-runner": "runner",
    "qaic-util": "util",
    "qaic-version-util": "version_util",
    "qaic-qpc": "qpc_tool",
}
#: Variables of a call that the log keeps, by prefix.
_NOTED = ("AIC_EMULATOR_", "QAIC_", "LD_LIBRARY_PATH")


def note_call(root: Path, program: str, argv: list[str]) -> None:
    """Append the call to state/calls.log as one JSON line."""
    line = {
        "program": program,
        "argv": argv,
        "cwd": str(Path.cwd()),
        "env": {name: value for name, value in os.environ.items() if name.startswith(_NOTED)},
        "pid": os.getpid(),
        "wall": time.time(),
    }
    with (root / "state" / "calls.log").open("ab") as log:
        log.write(json.dumps(line).encode() + b"\n")


def main() -> int:
    """Run `launch.py PROGRAM ARGUMENTS…`; the tool's exit status."""
    package = Path(__file__).resolve().parent
    root = package.parent.parent
    sys.path.insert(0, str(package.parent))
    program, argv = sys.argv[1], sys.argv[2:]
    try:
        note_call(root, program, argv)
    except PermissionError as error:
        print(
            f"{program}: {error.filename}: not yours to write: make your own root (farm emulator init DIR)",
            file=sys.stderr,
        )
        return 1
    faults = import_module("emulator.faults")
    try:
        status: int = import_module(f"emulator.{MODULES[program]}").main(program, argv, root)
        sys.stdout.flush()
    except faults.BadScenario as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader has gone; keep the interpreter from complaining when it flushes on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())

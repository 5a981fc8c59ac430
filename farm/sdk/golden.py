"""The golden run: a program known to work, run for a moment to see whether a card does.

Source: the SDK's installation checklist, which runs the 1-NSP test program (docs/sdk.md, "Golden run").
"""

from __future__ import annotations

from pathlib import Path

from farm.domain.job import CardConfiguration
from farm.sdk.argv import compile_argv
from farm.sdk.root import Sdk

#: The SDK's own test program, a folder with programqpc.bin.
PROGRAM = Path("test-data/aic100/v2/1nsp/1nsp-conv-hmx")


def golden_program(sdk: Sdk) -> Path | None:
    """The SDK's test program, None where this root has none."""
    folder = sdk.root / PROGRAM
    return folder if (folder / "programqpc.bin").is_file() else None


def golden_compile_argv(sdk: Sdk, onnx: Path, binary_dir: Path) -> list[str]:
    """The compiler's command for a golden program of our own: one core, static shapes."""
    return compile_argv(sdk, CardConfiguration(1, 1, 1, 1, 1), onnx, (None, None), binary_dir)


def golden_argv(sdk: Sdk, program: Path, qid: int, output_dir: Path) -> list[str]:
    """Ten inferences with random inputs on one core; output_dir must exist."""
    return [
        str(sdk.runner), "-t", str(program), "-d", str(qid), "-a", "1", "-S", "1", "-n", "10",
        "--write-output-dir", str(output_dir),
    ]  # fmt: skip

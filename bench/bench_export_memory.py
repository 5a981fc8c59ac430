"""Peak memory of plain exports with random weights, against the size of the weights.

    python bench/bench_export_memory.py [MODEL:TASK ...]

Prints a row an export, all by one warm child; the last line is the largest (peak - 1 GiB) / weights.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil

from farm.data import LOOKUP_TABLE
from farm.domain.catalogue import Catalogue
from farm.domain.lut import read_lut
from farm.domain.options import Request
from farm.domain.plan import plan
from farm.domain.resolve import resolve
from farm.sdk.child import Child, ChildSpec
from farm.stages.export import build_export, resolve_export
from farm.stages.exporter import Exporter, start_directly

GIB = 1 << 30
EXPORTS = (
    "bert-base-uncased:fill-mask",
    "xlm-roberta-large:feature-extraction",
    "xlm-roberta-large:fill-mask",
)


def main() -> None:
    """Exports one model after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exports", nargs="*", default=EXPORTS, metavar="MODEL:TASK")
    exports = parser.parse_args().exports
    children: list[Child] = []

    def start(spec: ChildSpec, fd: int) -> Child:
        children.append(start_directly(spec, fd))
        return children[-1]

    ratios = []
    with Exporter(start) as exporter:
        for export in exports:
            model, task = export.split(":")
            started = time.monotonic()
            weights, peak = measure(model, task, exporter)
            seconds = time.monotonic() - started
            after = psutil.Process(children[-1].pid).memory_info().rss
            ratios.append((peak - GIB) / weights)
            print(
                f"{model} {task}: weights {weights / GIB:.2f} GiB, peak {peak / GIB:.2f} GiB, "
                f"(peak - 1 GiB) / weights {ratios[-1]:.2f}, {seconds:.1f} s, "
                f"resident after {after / GIB:.2f} GiB",
                flush=True,
            )
    print(f"largest (peak - 1 GiB) / weights: {max(ratios):.2f}")


def measure(model: str, task: str, exporter: Exporter) -> tuple[int, int]:
    """Bytes of the weights and of the child's peak, of one export into a folder that is removed."""
    catalogue = Catalogue.load()
    request = Request(models=(model,), task=task, weights="random")
    [job] = resolve(request, read_lut(LOOKUP_TABLE), catalogue)
    [ask] = [stage.ask for stage in plan([job], catalogue).stages if stage.kind == "export"]
    with tempfile.TemporaryDirectory(prefix="aic-farm-") as folder:
        out = Path(folder) / "export"
        out.mkdir()
        facts = build_export(ask, resolve_export(ask), out, exporter, Path(folder) / "log")
    return 4 * facts["params"], facts["peak_rss_bytes"]


if __name__ == "__main__":
    main()

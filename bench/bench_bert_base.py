"""Time and peak memory of each stage of a full-size bert-base with random weights, on one emulated card.

    python bench/bench_bert_base.py [--model NAME] [--task TASK] [--seconds N]

Prints a row a stage; the last line is the export's peak memory over the size of its weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from farm.artifacts import Store
from farm.data import LOOKUP_TABLE
from farm.domain.catalogue import Catalogue
from farm.domain.lut import read_lut
from farm.domain.options import Request
from farm.domain.plan import plan
from farm.domain.resolve import resolve
from farm.emulator import write_root
from farm.sdk.devices import query
from farm.sdk.launcher import DirectLauncher
from farm.stages.exporter import Exporter
from farm.worker.building import StoreBuilder
from farm.worker.perform import Performer

GIB = 1 << 30


def main() -> None:
    """Runs the five stages once, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bert-base-uncased")
    parser.add_argument("--task", default="question-answering")
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    catalogue = Catalogue.load()
    request = Request(models=(options.model,), task=options.task, weights="random", seconds=options.seconds)
    [job] = resolve(request, read_lut(LOOKUP_TABLE), catalogue)
    asks = {stage.kind: stage.ask for stage in plan([job], catalogue).stages}
    with tempfile.TemporaryDirectory(prefix="aic-farm-") as folder, Exporter() as exporter:
        home = Path(folder)
        write_root(home / "sdk", cards=1)
        performer = Performer(Store(home / "store"), DirectLauncher(), exporter, home / "sdk")
        builder = StoreBuilder(performer.store)
        export = performer.export(asks["export"], builder, home / "export.log")
        row("export", export["seconds"], export["peak_rss_bytes"])
        compiled = performer.compile(asks["compile"], export, builder, home / "compile.log")
        row("compile", compiled["seconds"], compiled["peak_rss_bytes"])
        reference = performer.reference(asks["reference"], export, builder, home / "reference.log")
        row("reference", reference["seconds"], reference["peak_rss_bytes"])
        [card] = query(performer.sdk)
        run = performer.run(performer.prepare(job, export, compiled, home / "run"), card)
        row("run", run["run_s"], run["peak_rss_bytes"])
        verdict = performer.compare(asks["compare"], job, export, reference, run)
        print(
            f"throughput {run['throughput_inf_s']:.2f} inf/s (emulated), cosine {verdict['cosine_min']:.7f}"
        )
        made = performer.store.path(export["key"])
        weights = sum(file.stat().st_size for file in made.glob("model.onnx*"))
        print(f"export peak memory / weights: {export['peak_rss_bytes'] / weights:.2f}")


def row(stage: str, seconds: float, peak_bytes: int | None) -> None:
    """One line of the table."""
    memory = f"{peak_bytes / GIB:.2f} GiB" if peak_bytes else "not measured"
    print(f"{stage:<10} {seconds:7.1f} s   peak {memory}", flush=True)


if __name__ == "__main__":
    main()

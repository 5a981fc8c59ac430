"""One path for every stage: what a worker does with a claim, and `farm run` without one."""

from __future__ import annotations

import filecmp
import math
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from farm.artifacts import Corrupt, Manifest, Store
from farm.domain.digest import digest
from farm.domain.errors import InputLost, StageFailed
from farm.domain.job import Job, StageKind
from farm.sdk.launcher import Launcher
from farm.sdk.root import Sdk, find_root, open_sdk
from farm.stages.compile import build_compile, compile_key, dim_names
from farm.stages.exporter import Exporter
from farm.stages.run import Card as CardLike
from farm.stages.run import PreparedRun, execute_run, prepare_run
from farm.stages.workdir import tree
from farm.worker.building import Builder

#: The model's folder inside an export: the graph clipped to the fp16 range.
CLIPPED = Path("clipped") / "model.onnx"


class Performer:
    """The stages over one store, one SDK root and one launcher.

    Each returns the stage's outcome: what its dependants and the result record need, JSON-ready.
    """

    def __init__(self, store: Store, launcher: Launcher, exporter: Exporter, sdk_root: Path | None) -> None:
        self.store = store
        self.launcher = launcher
        self.exporter = exporter
        self._sdk_root = sdk_root

    @cached_property
    def sdk(self) -> Sdk:
        """The SDK, probed when first needed: an export needs none."""
        return open_sdk(find_root(self._sdk_root))

    @cached_property
    def threads(self) -> int:
        """Threads for torch and ONNX Runtime: half of the CPUs, the rest feeds the cards."""
        return max(1, math.ceil(len(os.sched_getaffinity(0)) / 2))

    def export(self, ask: Mapping[str, Any], builder: Builder, log: Path) -> dict[str, Any]:
        """The ONNX graph of a model, and its clipped twin."""
        from farm.stages.export import build_export, resolve_export

        resolved = resolve_export(ask)
        built = builder.get(
            resolved.key,
            lambda out: build_export(ask, resolved, out, self.exporter, log, self.threads, self.launcher),
            must_exist=bool(ask.get("must_exist")),
        )
        facts = built.manifest.facts
        return {
            **built.outcome(),
            **{name: facts.get(name) for name in ("revision", "head", "opset", "library", "peak_rss_bytes")},
        }

    def reference(
        self, ask: Mapping[str, Any], export: Mapping[str, Any], builder: Builder, log: Path
    ) -> dict[str, Any]:
        """ONNX Runtime's fp32 outputs of the unclipped graph on the run's inputs."""
        from farm.stages.reference import build_reference, reference_key, reference_versions

        model = self._open("export", export["key"])
        built = builder.get(
            reference_key(ask, export["key"], reference_versions()),
            lambda out: build_reference(
                ask, self.store.path(export["key"]), model.facts, out, self.launcher, log, self.threads
            ),
        )
        return {**built.outcome(), "peak_rss_bytes": built.manifest.facts.get("peak_rss_bytes")}

    def compile(
        self,
        ask: Mapping[str, Any],
        export: Mapping[str, Any],
        builder: Builder,
        log: Path,
        *,
        limit_s: float | None = None,
        memory_bytes: int | None = None,
    ) -> dict[str, Any]:
        """The compiled program. limit_s, memory_bytes: what the compiler may take (`build_compile`)."""
        model = self._open("export", export["key"])
        clipped = {name: file[1] for name, file in model.files.items() if name.startswith("clipped/")}
        built = builder.get(
            compile_key(ask, digest(clipped), self.sdk),
            lambda out: build_compile(
                ask, self.store.path(export["key"]) / CLIPPED, dim_names(model.facts), out, self.launcher,
                self.sdk, log, limit_s=limit_s, memory_bytes=memory_bytes,
            ),
            must_exist=bool(ask.get("must_exist")),
        )  # fmt: skip
        facts = built.manifest.facts
        return {
            **built.outcome(),
            **{name: facts.get(name) for name in ("program", "sdk_version", "peak_rss_bytes", "qpc_bytes")},
        }

    def prepare(
        self, job: Job, export: Mapping[str, Any], compiled: Mapping[str, Any], workdir: Path
    ) -> PreparedRun:
        """All of a run that needs no card."""
        model = self._open("export", export["key"])
        self._open("compile", compiled["key"])
        workdir.mkdir(parents=True)
        return prepare_run(
            job,
            self.store.path(export["key"]) / CLIPPED,
            model.facts,
            self.store.path(compiled["key"]) / "qpc",
            workdir,
            self.sdk,
        )

    def run(
        self, prepared: PreparedRun, card: CardLike, *, share: bool = False, limit_s: float | None = None
    ) -> dict[str, Any]:
        """Hold the card, run, let it go, and measure. limit_s: for the run's child, start to finish."""
        from farm.stages.measure import measure

        raw = execute_run(prepared, card, self.launcher, self.sdk, share=share, limit_s=limit_s)
        outcome = measure(prepared, raw)
        outcome["outputs"] = {name: str(path) for name, path in prepared.outputs.items()}
        return outcome

    def compare(
        self,
        ask: Mapping[str, Any],
        job: Job,
        export: Mapping[str, Any],
        reference: Mapping[str, Any],
        run: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The card's outputs against the reference."""
        from farm.stages.compare import compare
        from farm.stages.reference import INPUTS

        model = self._open("export", export["key"])
        self._open("reference", reference["key"])
        _check_same_inputs(tree(Path(run["workdir"]), job).inputs, self.store.path(reference["key"]) / INPUTS)
        numerics_only = bool(ask["numerics_only"]) or export.get("head") == "random"
        return compare(
            {name: Path(path) for name, path in run["outputs"].items()},
            self.store.path(reference["key"]),
            model.facts,
            job.config.batch_size,
            job.config.seq_length,
            ask["min_cosine"],
            numerics_only,
        )

    def _open(self, producer: StageKind, key: str) -> Manifest:
        """An artifact this stage was promised. Raises InputLost when it is gone or bad."""
        try:
            found = self.store.open(key)
        except Corrupt as error:
            raise InputLost(producer, key, f"{error}; it was removed") from error
        if found is None:
            raise InputLost(producer, key, f"artifact {key} is not in the store {self.store.root}")
        return found


def _check_same_inputs(run: Path, reference: Path) -> None:
    """Raises StageFailed("host") naming the first input of the run that is not the reference's."""
    for file in sorted(reference.glob("*.raw")):
        try:
            same = filecmp.cmp(file, run / file.name, shallow=False)
        except OSError as error:
            raise StageFailed(
                "host", f"input {file.name} of the run cannot be read: {error.strerror}"
            ) from error
        if not same:
            raise StageFailed("host", f"input {file.name}: the run's bytes are not the reference's")

"""Clips a model's constants to the fp16 range, touching only the bytes that must change.

The compiler converts fp32 constants to fp16 (docs/sdk.md); a value beyond 65504 would become
infinite there. Exported attention masks carry the fp32 minimum, so nearly every encoder needs the
pass. Activations that overflow while running are out of its reach.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from farm.domain.errors import StageFailed
from farm.stages.onnx_wire import FloatRegion, Graph, read_graph

#: The largest finite fp16 value.
FP16_MAX = 65504.0
#: Values looked at together: 16 MiB of fp32, so that a pass needs little memory of its own.
_CHUNK = 4 * 1024 * 1024


def clip_to_fp16(model: Path, out: Path, graph: Graph | None = None) -> int:
    """Writes `out`, the model at `model` with every float constant within ±65504; returns how many changed.

    Infinite values are clipped too. A model file that needs no change is hard-linked (copied across file
    systems); external data files are copied, and keep their place beside the model. `out` lies in a
    folder of its own.
    Raises StageFailed("input") for a NaN, an unknown float format or a missing or short data file.
    """
    graph = graph or read_graph(model)
    changes: dict[str | None, list[FloatRegion]] = {}
    changed = 0
    for file, regions in _by_file(graph).items():
        for region, count in _out_of_range(_path(model, file), regions):
            changes.setdefault(file, []).append(region)
            changed += count
    out.parent.mkdir(parents=True, exist_ok=True)
    for file in (None, *sorted(graph.external)):
        source, target = _path(model, file), _path(out, file)
        if not source.is_file():
            raise StageFailed(
                "input", f"{model.name}: its data file {file} is missing; export the model again"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        if file is None and file not in changes:
            _link_or_copy(source, target)
        else:
            # Never a link for a data file: the onnx package refuses one with several hard links.
            shutil.copyfile(source, target)
            _clip(target, changes.get(file, []))
    return changed


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _path(model: Path, file: str | None) -> Path:
    return model if file is None else model.parent / file


def _by_file(graph: Graph) -> dict[str | None, list[FloatRegion]]:
    files: dict[str | None, list[FloatRegion]] = {}
    for region in graph.floats:
        files.setdefault(region.file, []).append(region)
    return files


def _out_of_range(path: Path, regions: list[FloatRegion]) -> Iterator[tuple[FloatRegion, int]]:
    if not path.is_file():
        raise StageFailed("input", f"the model's data file {path.name} is missing; export it again")
    with path.open("rb") as file:
        for region in regions:
            count = 0
            for _, values in _chunks(file, region, path):
                low, high = values.min(), values.max()
                if np.isnan(low) or np.isnan(high):
                    raise StageFailed(
                        "input",
                        f"tensor {region.tensor} holds NaN; the checkpoint is damaged or badly trained",
                    )
                if low < -FP16_MAX or high > FP16_MAX:
                    count += int(np.count_nonzero(np.abs(values) > FP16_MAX))
            if count:
                yield region, count


def _clip(path: Path, regions: list[FloatRegion]) -> None:
    with path.open("r+b") as file:
        for region in regions:
            for at, values in _chunks(file, region, path):
                file.seek(at)
                file.write(np.clip(values, -FP16_MAX, FP16_MAX).astype(values.dtype).tobytes())


def _chunks(file: BinaryIO, region: FloatRegion, path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """The region's values a piece at a time, each with its byte offset. Read, not mapped: a mapped file
    would count as this process's memory."""
    if region.dtype == "bfloat16":
        raise StageFailed("input", f"tensor {region.tensor} is bfloat16; export the model in fp32")
    dtype = np.dtype(region.dtype).newbyteorder("<")
    end = region.offset + region.count * dtype.itemsize
    if end > path.stat().st_size:
        raise StageFailed(
            "input", f"tensor {region.tensor} lies beyond the end of {path.name}; export it again"
        )
    step = _CHUNK * dtype.itemsize
    for start in range(region.offset, end, step):
        file.seek(start)
        yield start, np.frombuffer(file.read(min(step, end - start)), dtype)

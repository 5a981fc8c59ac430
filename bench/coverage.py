"""The coverage run: models at full size with random weights, on a farm of eight emulated cards; no network.

    python bench/coverage.py [--out docs/coverage.md]
    python bench/coverage.py --model prajjwal1/bert-tiny --objective balanced --out -

Starts a farm in a folder of its own, submits the listed models as one campaign, waits, and writes a document:
this host, totals, and a row a job. Exits 1 when a job failed. Figures of disk and memory are sampled.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import psutil

import farm
from farm.local.home import Home
from farm.records import open_records
from farm.report.columns import seconds
from farm.report.coverage import GIB, coverage_report

#: Seconds between two looks at disk and memory.
SAMPLE_S = 3.0
#: Hours after which the run is given up.
LIMIT_H = 6.0
LIBRARIES = ("torch", "transformers", "optimum-onnx", "onnxruntime")


@dataclass
class Sampler:
    """Looks at a farm's folder and the host's memory; keeps the peaks, and the size of each artifact seen."""

    home: Path
    used_before: int = field(default_factory=lambda: _memory_used())
    peak_disk: int = 0
    peak_memory: int = 0
    #: By artifact key: bytes on disk, and of those the unclipped model's.
    artifacts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def look(self) -> None:
        """One sample."""
        self.peak_disk = max(self.peak_disk, _disk_used(self.home))
        self.peak_memory = max(self.peak_memory, _memory_used() - self.used_before)
        for manifest in (self.home / "store" / "objects").glob("*/manifest.json"):
            if manifest.parent.name not in self.artifacts:
                with suppress(FileNotFoundError):  # evicted while we look
                    self.artifacts[manifest.parent.name] = _sizes(manifest)


def _memory_used() -> int:
    memory = psutil.virtual_memory()
    return int(memory.total - memory.available)


def _disk_used(folder: Path) -> int:
    """Bytes that the files below `folder` take on disk, hard links once."""
    blocks: dict[int, int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                info = Path(place, name).lstat()
                blocks[info.st_ino] = info.st_blocks * 512
    return sum(blocks.values())


def _sizes(manifest: Path) -> tuple[int, int]:
    """An artifact's bytes, hard links once, and those of its model.onnx with external data."""
    names = json.loads(manifest.read_text())["files"]
    infos = {name: (manifest.parent / name).stat() for name in names}
    total = sum({info.st_ino: info.st_size for info in infos.values()}.values())
    return total, sum(info.st_size for name, info in infos.items() if name.startswith("model.onnx"))


def cover(home: Path, options: argparse.Namespace, words: Sequence[str]) -> tuple[str, bool]:
    """Run the campaign on a farm in `home`; the document, and whether every job is done."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FARM_")}
    env |= {"FARM_HOME": str(home), "HF_HUB_OFFLINE": "1"}

    def call(*arguments: str) -> str:
        argv = [sys.executable, "-m", "farm", *arguments]
        return subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout

    sampler = Sampler(home)
    try:
        call(
            "up", "--emulate", str(options.cards), "--timing", "modelled", "--detach",
            "--cpu-workers", str(options.cpu_workers), "--store-limit", options.store_limit,
        )  # fmt: skip
        started = time.monotonic()
        models = [word for model in options.model for word in ("-m", model)] or ["--listed"]
        asked = [*models, "-o", options.objective, "--weights", "random", "--time", str(options.time)]
        campaign = json.loads(call("submit", *asked, "--json"))["campaign"]
        _wait(campaign, env, sampler, started + options.hours * 3600)
        wall = time.monotonic() - started
        records = open_records((Home(home).read_state() or {})["redis_url"])
        results, outcomes = records.results(campaign), records.outcomes(campaign)
    finally:
        call("down")
    totals = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "host": _host(),
        "software": _software(),
        "farm": f"{options.cards} emulated cards, {options.cpu_workers} CPU workers, a store of"
        f" {options.store_limit}, runs of {options.time} s",
        "wall time": seconds(wall),
        "artifacts made": f"{len(sampler.artifacts)}, {_gib(sum(t for t, _ in sampler.artifacts.values()))}",
        "peak of the farm's folder": _gib(sampler.peak_disk),
        "peak of the host's memory": f"{_gib(sampler.peak_memory)} above what was in use before",
    }
    weights = {key: model for key, (_, model) in sampler.artifacts.items()}
    command = shlex.join(["python", "bench/coverage.py", *_without(words, "--folder", "--out")])
    document = coverage_report(results, outcomes, weights, totals, command)
    return document, all(record["state"] == "done" for record in results)


def _without(words: Sequence[str], *options: str) -> list[str]:
    """The words without those options: where this host keeps its files tells nobody anything."""
    kept = [word for word in words if not word.startswith(tuple(f"{name}=" for name in options))]
    return [
        word for n, word in enumerate(kept) if word not in options and (not n or kept[n - 1] not in options)
    ]


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _host() -> str:
    """The CPUs this process may use, and memory."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cpus, memory = len(os.sched_getaffinity(0)), psutil.virtual_memory().total
    return f"{cpus} CPUs ({(models or [platform.machine()])[0]}), {_gib(memory)}, {platform.system()}"


def _software() -> str:
    found = [f"Python {platform.python_version()}", f"farm {farm.__version__}"]
    return ", ".join([*found, *(f"{name} {metadata.version(name)}" for name in LIBRARIES)])


def _wait(campaign: str, env: dict[str, str], sampler: Sampler, deadline: float) -> None:
    """Until the campaign has ended; `farm wait` shows how far it is."""
    waiting = subprocess.Popen(
        [sys.executable, "-m", "farm", "wait", campaign], env=env, stdout=subprocess.DEVNULL
    )
    try:
        while waiting.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"campaign {campaign} has not ended in time")
            sampler.look()
            with suppress(subprocess.TimeoutExpired):
                waiting.wait(SAMPLE_S)
        sampler.look()
    finally:
        waiting.kill()
        waiting.wait()
    if waiting.returncode not in (0, 1):
        raise RuntimeError(f"`farm wait` ended with {waiting.returncode}")


def main(words: Sequence[str]) -> int:
    """Run, write the document, clear away."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", default=[], help="instead of the listed ones; repeatable")
    parser.add_argument("--objective", default="best-throughput", help="or `all`")
    parser.add_argument("--time", type=int, default=2, help="seconds of a run")
    parser.add_argument("--cards", type=int, default=8)
    parser.add_argument("--cpu-workers", type=int, default=2)
    parser.add_argument("--store-limit", default="20G", help="disk for artifacts; the farm evicts beyond it")
    parser.add_argument(
        "--folder", type=Path, help="where the farm's folder is made; the temporary files' one"
    )
    parser.add_argument("--hours", type=float, default=LIMIT_H, help="give up after so many")
    parser.add_argument("--out", default="docs/coverage.md", help="the document; - for standard output")
    options = parser.parse_args(words)
    home = Path(tempfile.mkdtemp(prefix="farm-coverage-", dir=options.folder))
    try:
        document, good = cover(home, options, words)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if options.out == "-":
        print(document, end="")
    else:
        Path(options.out).write_text(document)
    return 0 if good else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the farm is stopped on the way out
    sys.exit(main(sys.argv[1:]))

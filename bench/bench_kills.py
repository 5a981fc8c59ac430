"""The farm, plain Celery and Dramatiq side by side under one schedule of kills.

    python bench/bench_kills.py [--jobs J] [--kills K] [--every S] [--workers W] [--seed N] [--wait S]

Every system has as many workers over a durable Redis of its own and does the same jobs: a child process that
lasts a second. Every S seconds a worker is hit by SIGKILL, half of the times the process that does the job
alone, half of the times the whole worker with its child. Prints a table and the ratios of the medians last.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.rivals.measure import Kind, Measured, measure, schedule
from bench.rivals.systems import Farm, Rival, System, check_rivals
from farm.emulator import write_root
from tests.faults.bench import Made

#: Long enough for the job, short enough to matter.
SHORT_VISIBILITY_S = 5


def main(words: Sequence[str]) -> int:
    """Each system in turn; always 0, for the figures are the rivals' too."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=160)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=float, default=2.0, metavar="S", help="seconds between two kills")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wait", type=float, default=150.0, metavar="S", help="after the last kill, at most")
    options = parser.parse_args(words)
    check_rivals()
    for name in [name for name in os.environ if name.startswith("FARM_")]:
        del os.environ[name]
    scratch = Path(tempfile.mkdtemp(prefix="farm-kills-"))
    celery, workers = "bench.rivals.celery_app", options.workers
    plan = schedule(options.seed, options.kills, options.every, workers)
    print(f"seed {options.seed}: {options.kills} kills, one each {options.every:g} s, {workers} workers")
    try:
        root = scratch / "sdk"
        write_root(root, cards=workers, timing="modelled")
        (scratch / "made").mkdir()
        made = Made(root, scratch / "made")
        makers: list[Callable[[], System]] = [
            lambda: Farm(made, workers, scratch / "farm"),
            lambda: Rival("Celery", celery, workers, scratch / "celery"),
            lambda: Rival(
                f"Celery, visibility {SHORT_VISIBILITY_S} s", celery, workers, scratch / "celery-short",
                BENCH_VISIBILITY_S=str(SHORT_VISIBILITY_S),
            ),
            lambda: Rival("Dramatiq", "bench.rivals.dramatiq_app", workers, scratch / "dramatiq"),
        ]  # fmt: skip
        found = []
        for make in makers:
            system = make()
            try:
                found.append(measure(system, options.jobs, plan, options.wait))
            finally:
                system.close()
            print(line(found[-1]), flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for rival in found[1:]:
        print(f"seconds to run again, {rival.name} / farm: {ratio(rival, found[0])}")
    return 0


def line(measured: Measured) -> str:
    """One system's row."""
    return (
        f"{measured.name:24} {measured.done:4} of {measured.jobs} done in {measured.seconds:4.0f} s,"
        f" {measured.kills} kills: {measured.lost} lost, {measured.stuck} stuck,"
        f" {measured.extra / max(1, measured.kills):.2f} extra a kill;"
        f" again after: process {again(measured, 'process')}, worker {again(measured, 'worker')}"
    )


def again(measured: Measured, kind: Kind) -> str:
    """Median and maximum of the seconds to run again, and how many never did."""
    times = measured.again_s[kind]
    ran = sorted(a for a in times if a is not None)
    never = len(times) - len(ran)
    middle = measured.median_again(kind)
    shown = f"{middle:.1f} s" if middle is not None else "never" if times else "-"
    return (
        f"{shown} (max {ran[-1]:.1f}, never {never} of {len(times)})"
        if ran
        else f"{shown} ({never} of {len(times)})"
    )


def ratio(rival: Measured, farm: Measured) -> str:
    """Of the medians over all executions that were cut short."""
    ours, theirs = farm.median_again(), rival.median_again()
    if ours is None:
        return "-"
    return "the median one did not run again" if theirs is None else f"{theirs / ours:.1f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

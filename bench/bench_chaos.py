"""Campaigns on eight emulated cards while the farm's processes are killed at random moments.

    python bench/bench_chaos.py [--seeds N] [--first-seed S] [--kills K] [--jobs J]
    python bench/bench_chaos.py --redis --kills 50

Each seed is a campaign of its own on a `farm up` of its own: workers, their pool processes, keepers, SDK
children and exporters, whole workers at once, the coordinator and both Redis servers get SIGKILL, some of
them SIGSTOP for a while; `farm up` alone is spared. With --redis only the Redis of the records is killed.
A calm campaign is run first. Prints what did not hold, and exits 1 when anything did not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.chaos import models
from bench.chaos.campaign import Campaign, Fire, run

#: The kills are to be over in this share of the calm campaign's time; one that ends before them lacks some.
PACE = 0.5
#: Of a fault that shows many times, how many are printed.
SHOWN = 20


def tally(counts: Counter[str]) -> str:
    """`3 worker, 2 keeper`"""
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"


def say(line: str) -> None:
    """A line of the report, at once."""
    print(line, flush=True)


def tell(name: str, campaign: Campaign, calm: Campaign | None) -> None:
    """The figures of one campaign."""
    kills = sum(campaign.killed.values())
    say(f"{name}: {campaign.jobs} jobs ({tally(campaign.states)}) in {campaign.seconds:.0f} s")
    if calm is not None:
        say(f"  killed: {tally(campaign.killed)}; stopped for a while: {tally(campaign.stopped)}")
        say(
            f"  {campaign.extra} executions beyond one a stage"
            f" ({campaign.extra / max(1, kills):.2f} a kill), {campaign.runs_on_cards} programs on cards;"
            f" {campaign.seconds / calm.seconds:.2f} of the calm campaign's time"
        )
    say(f"  attempts: {tally(campaign.ends)}")
    for reason in campaign.reasons[:SHOWN]:
        say(f"  failed: {reason}")
    for fault in campaign.faults[:SHOWN]:
        say(f"  FAULT {fault}")
    if len(campaign.faults) > SHOWN:
        say(f"  and {len(campaign.faults) - SHOWN} faults more")


def main(words: Sequence[str]) -> int:
    """Run the campaigns in turn; 1 when anything did not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1, help="campaigns under fire (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=40, help="in each (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=300, help="in each, at least (default: %(default)s)")
    parser.add_argument("--redis", action="store_true", help="kill the records' Redis and nothing else")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a farm that failed a check")
    options = parser.parse_args(words)
    for name in [name for name in os.environ if name.startswith("FARM_")]:
        del os.environ[name]
    scratch = Path(tempfile.mkdtemp(prefix="farm-chaos-"))
    campaigns: list[Campaign] = []
    try:
        made = models.make(scratch / "models")
        calm = run(_folder(scratch, "calm"), made, options.jobs, None, say)
        tell("calm", calm, None)
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            fire = Fire(seed, options.kills, PACE * calm.seconds / options.kills, options.redis)
            folder = _folder(scratch, f"seed-{seed}")
            campaigns.append(run(folder, made, options.jobs, fire, say))
            tell(f"seed {seed}", campaigns[-1], calm)
            if not (options.keep and campaigns[-1].faults):
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        if not (options.keep and any(campaign.faults for campaign in campaigns)):
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            say(f"kept: {scratch}")
    return _sum_up(calm, campaigns, options.kills * options.seeds)


def _folder(scratch: Path, name: str) -> Path:
    folder = scratch / name
    folder.mkdir()
    return folder


def _sum_up(calm: Campaign, campaigns: Sequence[Campaign], asked: int) -> int:
    killed = sum((c.killed for c in campaigns), Counter[str]())
    kills, states = sum(killed.values()), sum((c.states for c in campaigns), Counter[str]())
    say(f"{len(campaigns)} seeds, {kills} of {asked} kills ({tally(killed)}); jobs: {tally(states)}")
    extra, faults = sum(c.extra for c in campaigns), sum(len(c.faults) for c in [calm, *campaigns])
    say(f"extra executions a kill: {extra / max(1, kills):.2f}; faults: {faults}")
    seconds = sum(c.seconds for c in campaigns) / len(campaigns)
    say(f"wall time, under fire / calm: {seconds / calm.seconds:.2f}")
    return 1 if faults or kills < asked else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the farms are stopped on the way out
    sys.exit(main(sys.argv[1:]))

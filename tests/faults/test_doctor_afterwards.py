"""The farm's own word for a fault: `farm doctor` names what is left, `farm jobs JOB` what happened."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from farm.cli.context import Farm
from farm.cli.main import cli
from tests.faults.bench import Bench, Made
from tests.faults.conftest import MakeBench
from tests.faults.test_inputs_lost import artifact, cut


def test_what_was_overcome_and_what_is_doubtful_is_named_with_its_cause(
    make_bench: MakeBench, made: Made, tmp_path: Path
) -> None:
    bench = make_bench(FARM_STORE=str(tmp_path / "store"), FARM_STORE_LIMIT="100G")
    bench.coordinator()
    bench.worker("device.0", "card")
    bench.good()
    bench.records.drain("0")
    bench.scenario(
        {"tool": "compiler", "fault": "killed", "times": 1},
        {"tool": "qaic-runner", "fault": "slow", "seconds": 60, "times": 1},
        {"tool": "qaic-runner", "fault": "output-nan"},
    )
    bench.worker("export,compile,reference,compare", "cpu")
    campaign = bench.campaign(made.job())
    bench.until(lambda: bench.runs(campaign)["ready"], 30, "program")
    cut(artifact(bench, "compile") / "qpc" / "programqpc.bin")
    bench.records.resume("0")
    bench.runner()
    bench.files(lambda: bench.acted() == 2, 20, "slow run")
    [worker] = [w for w in bench.records.fleet.workers() if w["card"]]
    psutil.Process(int(worker["pid"])).kill()
    bench.until(lambda: bench.records.jobs(campaign)[0]["state"] == "done", 40, "result")
    said = bench.farm("doctor").stdout
    job = bench.records.jobs(campaign)[0]["job"]
    for line in (
        f"note  compile tried again: 1 attempt of campaign {campaign} (failed, host): ",
        f"note  run tried again: 1 attempt of campaign {campaign} on device.0 (worker lost, host): ",
        f"note  run tried again: 1 attempt of campaign {campaign} on device.0 (input lost): ",
    ):
        assert line in said, said
    assert re.search(r"^note  doubtful results: .*\b1 not_finite", said, re.MULTILINE), said
    assert said.count(f"farm jobs {job}") == 3
    told = bench.farm("jobs", job).stdout
    assert "run 1: " in told
    assert "programqpc.bin" in told
    assert "run 2: host: the worker process died" in told


def test_what_a_killed_host_side_leaves_is_named_and_its_attempt_has_a_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_HOME", str(bench.home))
    monkeypatch.setenv("FARM_SDK_ROOT", str(bench.made.root))

    def farm(*words: str) -> str:
        return CliRunner().invoke(cli, ["--redis", bench.redis.url, *words, "--json"], obj=Farm()).stdout

    bench.coordinator()
    bench.worker()
    bench.good()
    bench.slow_runs(60)
    campaign = bench.submit(bench.made.job())
    runner = bench.runner()
    [attempt] = bench.history(campaign)
    assert (attempt["outcome"], Path(attempt["log"]).is_file()) == (None, True)
    keeper, worker = bench.keeper(), bench.pool_process()
    for process in (*bench.processes("celery"), keeper):
        process.kill()
    bench.files(
        lambda: not psutil.pid_exists(worker.pid) or worker.status() == "zombie", 20, "end of the worker"
    )
    seen = {check["check"]: check for check in json.loads(farm("doctor"))}
    assert seen["orphans"]["state"] == "bad"
    assert f"process {runner.pid} " in seen["orphans"]["detail"]
    assert seen["card 0"]["detail"].startswith(f"held by process {runner.pid}")
    [gone] = [check for name, check in seen.items() if name.startswith("worker ")]
    assert "is not there any more" in gone["detail"]
    assert runner.is_running()
    bench.until(lambda: bench.history(campaign)[0]["outcome"], 10, "lapse")
    history = json.loads(farm("jobs", bench.records.jobs(campaign)[0]["job"]))["history"]
    [lost] = [entry for entry in history if entry["stage"] == "run"]
    assert (lost["device"], lost["log"]) == ("device.0", attempt["log"])
    assert lost["ended"] > lost["started"]

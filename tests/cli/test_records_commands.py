"""The commands that read and change records, over a real Redis."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from farm.domain.job import STAGE_KINDS
from farm.domain.lut import read_lut
from farm.domain.result import FIELDS
from farm.domain.states import after_failure
from farm.records import Records
from farm.report import grid
from tests.cli.conftest import Invoke
from tests.records import scene
from tests.redis_server import RedisProcess


def finished(records: Records) -> str:
    """A campaign of one job that is done."""
    campaign = scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    for kind in ("export", "reference", "compile"):
        scene.do(records, worker, kind)
    run = scene.must_claim(records, card, "run", "device.0")
    assert records.claims.running(run.stage, run.token)
    outcome = {"platform": "emulated", "timing": "modelled", "throughput_inf_s": 1234.5, "device": "device.0"}
    assert records.claims.done(run.stage, run.token, {**outcome, "latency_ms_p95": 2.5}) == "ok"
    scene.do(records, worker, "compare")
    return campaign


def test_before_the_first_campaign_lists_are_empty_and_actions_refused(farm: Invoke) -> None:
    assert json.loads(farm("campaigns", "--json").stdout) == []
    assert json.loads(farm("jobs", "--json").stdout) == []
    assert json.loads(farm("results", "--format", "json").stdout) == []
    status = json.loads(farm("status", "--json").stdout)
    assert (status["campaign"], status["jobs"]["total"]) == (None, 0)
    for command in ("cancel", "retry", "wait"):
        result = farm(command)
        assert result.exit_code == 2
        assert "no campaign" in result.stderr


def test_status_json_is_the_contract(farm: Invoke, records: Records) -> None:
    records.fleet.tick("test")
    campaign = scene.submit(records, scene.job(), scene.job("albert-base-v2"))
    scene.card(records, 3)
    result = farm("status", "--json")
    status = json.loads(result.stdout)
    assert result.stderr == ""
    assert (status["campaign"], status["state"], status["jobs"]["total"]) == (campaign, "waiting", 2)
    assert set(status["jobs"]) == {"total", "waiting", "running", "done", "failed", "cancelled"}
    assert set(status["stages"]) == {"export", "reference", "compile", "run", "compare"}
    for counts in status["stages"].values():
        assert set(counts) == {"waiting", "ready", "running", "done", "failed", "blocked", "cancelled"}
    [card] = status["cards"]
    assert {"device", "state", "health", "job", "workers", "done"} <= set(card)
    assert "eta_s" in status


def test_status_for_the_human(farm: Invoke, records: Records) -> None:
    campaign = finished(records)
    result = farm("status", campaign[:-1])
    assert f"campaign {campaign} done: 1 of 1 done" in result.stdout
    assert "compile" in result.stdout
    assert "no coordinator" in result.stderr


def test_status_says_when_no_card_may_work(farm: Invoke, records: Records) -> None:
    scene.submit(records, scene.job())
    assert "no card is known" in farm("status").stdout
    scene.card(records)
    records.fleet.set_health("device.0", "quarantined", "golden run failed")
    assert "no good card (quarantined)" in farm("status").stdout


def test_watch_ends_with_the_campaign(farm: Invoke, records: Records) -> None:
    campaign = finished(records)
    result = farm("status", "--watch")
    assert result.exit_code == 0
    assert f"campaign {campaign} done" in result.stdout


def test_results_in_every_format(farm: Invoke, records: Records, tmp_path: Path) -> None:
    campaign = finished(records)
    [record] = json.loads(farm("results", "--format", "json").stdout)
    assert list(record) == list(FIELDS)
    assert (record["campaign"], record["state"], record["throughput_inf_s"]) == (campaign, "done", 1234.5)
    [row] = csv.DictReader(io.StringIO(farm("results", campaign, "--format", "csv").stdout))
    assert (row["throughput_inf_s"], row["ols"]) == ("1234.5", "")
    for form in ("table", "md"):
        text = farm("results", "--format", form).stdout
        assert "1,234.5" in text
        assert "emulated, modelled" in text
    assert farm("results", "--format", "lut", "-o", str(tmp_path / "lut.csv")).exit_code == 0
    assert read_lut(tmp_path / "lut.csv").rows == ()
    assert farm("results", "--format", "parquet").exit_code == 2


def test_results_into_a_place_that_is_not_there(farm: Invoke, records: Records, tmp_path: Path) -> None:
    finished(records)
    result = farm("results", "--format", "csv", "-o", str(tmp_path / "none" / "r.csv"))
    assert result.exit_code == 2
    assert "No such file" in result.stderr


def test_an_unknown_campaign_or_job_is_named(farm: Invoke, records: Records) -> None:
    scene.submit(records, scene.job())
    for words in (
        ["status", "nope"],
        ["results", "nope"],
        ["jobs", "nope"],
        ["jobs", "nope.1"],
        ["cancel", "nope"],
    ):
        result = farm(*words)
        assert result.exit_code == 2
        assert words[1] in result.stderr


def test_jobs_and_a_jobs_history(farm: Invoke, records: Records) -> None:
    campaign = finished(records)
    [job] = json.loads(farm("jobs", "--json").stdout)
    assert set(job) == {"job", "model", "task", "objective", "state", "attempts", "error_kind", "error"}
    assert (job["job"], job["state"]) == (f"{campaign}.1", "done")
    whole = json.loads(farm("jobs", f"{campaign}.1", "--json").stdout)
    assert [attempt["stage"] for attempt in whole["history"]] == [
        *("export", "reference", "compile", "run", "compare")
    ]
    assert "device.0" in farm("jobs", f"{campaign}.1").stdout


def test_cancel_then_wait_is_exit_1_then_retry(farm: Invoke, records: Records) -> None:
    campaign = scene.submit(records, scene.job(), scene.job("albert-base-v2"))
    assert json.loads(farm("cancel", f"{campaign}.1", "--json").stdout)["cancelled"] == 1
    assert json.loads(farm("cancel", "--json").stdout)["cancelled"] == 1
    result = farm("wait", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["state"] == "cancelled"
    assert json.loads(farm("retry", "--failed", "--json").stdout) == {"names": [campaign], "retried": 2}
    assert records.status(campaign)["jobs"]["waiting"] == 2


def test_waiting_for_what_is_done_needs_no_coordinator(farm: Invoke, records: Records) -> None:
    finished(records)
    assert farm("wait").exit_code == 0


def test_waiting_for_an_open_campaign_needs_one(farm: Invoke, records: Records) -> None:
    scene.submit(records, scene.job())
    assert farm("wait").exit_code == 3


def test_ctrl_c_leaves_the_campaign_running(records: Records, redis_process: RedisProcess) -> None:
    records.fleet.tick("test")
    campaign = scene.submit(records, scene.job())
    words = [sys.executable, "-m", "farm", "--redis", redis_process.url, "wait"]
    listener = records.client.pubsub()

    def hear_it() -> None:
        """In the child: a suite that runs in the background hands down that Ctrl-C is ignored."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=hear_it) as process:
        try:
            for _ in range(400):
                if records.client.pubsub_numsub("farm:changed")[0][1]:
                    break
                listener.get_message(timeout=0.05)
                records.fleet.tick("test")
            else:
                pytest.fail("farm wait never began to wait")
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
            assert process.returncode == 130
        finally:
            process.kill()
    assert f"campaign {campaign} goes on" in said
    assert records.status(campaign)["state"] == "waiting"


def test_devices_and_draining(farm: Invoke, records: Records) -> None:
    assert json.loads(farm("devices", "--json").stdout) == []
    scene.card(records, 3)
    [card] = json.loads(farm("devices", "--json").stdout)
    assert set(card) == {
        *("device", "node", "state", "health", "reason", "sku", "nsp_total", "nsp_free", "serial"),
        *("pci_address", "workers", "queued", "temperature_c", "power_w", "seen"),
    }
    assert farm("devices", "drain", "3").exit_code == 0
    assert json.loads(farm("devices", "--json").stdout)[0]["health"] == "drained"
    assert farm("devices", "resume", "3").exit_code == 0
    assert json.loads(farm("devices", "--json").stdout)[0]["health"] == "good"
    assert farm("devices", "drain", "9").exit_code == 2
    assert "device" in farm("devices").stdout or "0000:03" in farm("devices").stdout


def test_logs(farm: Invoke, records: Records, tmp_path: Path) -> None:
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)
    log = tmp_path / "export.log"
    log.write_text("Traceback: no such head\n")
    export = scene.must_claim(records, worker, "export")
    verdict = after_failure("input", {}, [])
    records.claims.ended(export.stage, export.token, verdict, error="no head", log=str(log))
    assert farm("logs", f"{campaign}.1").stdout == "Traceback: no such head\n"
    assert (
        farm("logs", f"{campaign}.1", "--stage", "export", "--follow").stdout == "Traceback: no such head\n"
    )
    assert farm("logs", f"{campaign}.1", "--stage", "run").exit_code == 2
    log.unlink()
    gone = farm("logs", f"{campaign}.1")
    assert gone.exit_code == 2
    assert str(log) in gone.stderr


def test_a_halted_farm_says_why(farm: Invoke, records: Records) -> None:
    records.fleet.halt("the disk of Redis at /x is nearly full")
    assert "nothing new is started: the disk of Redis at /x is nearly full" in farm("status").stdout
    assert json.loads(farm("status", "--json").stdout)["halted"] == "the disk of Redis at /x is nearly full"
    refused = farm("submit", "-m", "bert-base-cased")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "nothing is recorded now: the disk of Redis at /x is nearly full" in refused.stderr
    assert "BAD   disk of Redis: nothing new is started: the disk" in farm("doctor").stdout


def test_a_jobs_history_tells_of_each_attempt_where_when_why_and_its_log(
    farm: Invoke, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = scene.submit(records, scene.job())
    home = "/var/lib/aic-farm"
    worker, card = scene.cpu(records, "host:4711:ab12cd"), scene.card(records, 7, worker="host:4712:ab12ce")
    cpu = dict.fromkeys(STAGE_KINDS, f"{home}/logs/stages/{{stage}}-{{attempt}}.log")
    records.fleet.keeps_logs("host", {**cpu, "run": f"{home}/work/{{stage}}/{{attempt}}/run.log"})
    full = scene.must_claim(records, worker, "export")
    told = f"{home}/logs/stages/told.log"
    verdict = after_failure("host", {}, [])
    records.claims.ended(
        full.stage, full.token, replace(verdict, delay_s=0), error="No space left on device", log=told
    )
    for kind in ("export", "reference", "compile"):
        scene.do(records, worker, kind)
    back = scene.must_claim(records, card, "run", "device.7")
    records.claims.hand_back(back.stage, back.token, {}, "worker stopped")
    now = scene.must_claim(records, card, "run", "device.7")
    history = json.loads(farm("jobs", f"{campaign}.1", "--json").stdout)["history"]
    names = ("stage", "attempt", "node", "worker", "device", "outcome", "error_kind", "error", "log")
    assert [[attempt[name] for name in names] for attempt in history] == [
        ["export", 1, "host", worker, None, "failed", "host", "No space left on device", told],
        ["export", 2, "host", worker, None, "done", None, None, f"{home}/logs/stages/{full.stage}-2.log"],
        *(
            [kind, 1, "host", worker, None, "done", None, None, f"{home}/logs/stages/{at}-1.log"]
            for kind in ("reference", "compile")
            for at in [json.loads(farm("jobs", f"{campaign}.1", "--json").stdout)["stages"][kind]["id"]]
        ),
        *(
            ["run", n, "host", card, "device.7", ended, None, None, f"{home}/work/{now.stage}/{n}/run.log"]
            for n, ended in ((1, "worker stopped"), (2, None))
        ),
    ]
    assert all(attempt["started"] for attempt in history)
    assert [bool(attempt["ended"]) for attempt in history] == [True] * 5 + [False]
    monkeypatch.setattr(grid, "PLAIN_WIDTH", 100)
    shown = farm("jobs", f"{campaign}.1").stdout.splitlines()
    assert max(map(len, shown)) <= 100
    rows = [line.split()[:4] for line in shown if line.strip().partition(" ")[0] in STAGE_KINDS]
    assert [row for row in rows if row[1].isdigit()] == [
        *(["export", n, "host:4711", "–"] for n in "12"),
        *([kind, "1", "host:4711", "–"] for kind in ("reference", "compile")),
        *(["run", n, "host:4712", "device.7"] for n in "12"),
    ]
    assert [f"export 1: log {told}", "export 1: host: No space left on device"] == [
        line.rstrip() for line in shown if line.startswith("export 1: ")
    ]
    assert f"run 2: log {home}/work/{now.stage}/2/run.log" in [line.rstrip() for line in shown]

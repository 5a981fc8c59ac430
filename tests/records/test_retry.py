"""What `farm retry` starts over, and what it leaves to those who count on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm.domain.job import StageKind
from farm.domain.states import after_failure
from farm.records import Records
from farm.records.claims import Claim
from tests.records import scene


def fail(records: Records, claim: Claim, error: str = "broken") -> None:
    assert records.claims.ended(claim.stage, claim.token, after_failure("input", {}, []), error=error) == "ok"


def make(records: Records, worker: str, key: str, kind: StageKind) -> Claim:
    """Claim a stage and make its artifact."""
    claim = scene.must_claim(records, worker, kind)
    assert records.claims.build(claim, key) == "build"
    assert records.claims.done(claim.stage, claim.token, {"key": key, "seconds": 5.0, "bytes": 10}) == "ok"
    return claim


def shown(records: Records, campaign: str, number: int) -> Mapping[str, Any]:
    return records.results(campaign)[number - 1]


def test_retry_runs_a_failed_job_again_and_archives_the_old_result(records: Records) -> None:
    campaign = scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    worker, card = scene.cpu(records), scene.card(records)
    claim = scene.must_claim(records, worker, "export")
    records.claims.ended(claim.stage, claim.token, after_failure("input", {}, []), error="hub down")
    assert records.retry([campaign], failed_only=True) == 1
    scene.check_counters(records, [campaign])
    again = scene.do(records, worker, "export")
    assert again.stage == claim.stage
    assert again.attempt == 2
    scene.until_run(records, worker)
    for _ in range(2):
        scene.do(records, card, "run", "device.0")
    for _ in range(2):
        scene.do(records, worker, "reference")
        scene.do(records, worker, "compare")
    assert records.status(campaign)["state"] == "done"
    assert records.job(f"{campaign}.1")["archived"] + records.job(f"{campaign}.2")["archived"] == 1
    scene.check_counters(records, [campaign])


def test_what_was_done_for_a_failed_job_alone_is_asked_for_again(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    make(records, worker, "export-x", "export")
    make(records, worker, "compile-x", "compile")
    make(records, worker, "reference-x", "reference")
    fail(records, scene.must_claim(records, card, "run", "device.0"), "made by an older SDK")
    assert records.retry([campaign], failed_only=True) == 1
    claim = scene.must_claim(records, worker, "export")
    assert records.claims.build(claim, "export-x") == "present", "what is there is found"
    records.claims.done(claim.stage, claim.token, {"key": "export-x"})
    claim = scene.must_claim(records, worker, "compile")
    assert records.claims.build(claim, "compile-y") == "build", "another SDK makes another program"
    scene.check_counters(records, [campaign])


def test_what_an_open_job_counts_on_is_not_started_over(records: Records) -> None:
    campaign = scene.submit(records, scene.job(), scene.job(cores=1))
    worker = scene.cpu(records)
    make(records, worker, "export-x", "export")
    fail(records, scene.must_claim(records, worker, "compile"))
    assert records.retry([campaign], failed_only=True) == 1
    scene.check_counters(records, [campaign])
    assert scene.claim(records, worker, "export") is None
    for _ in range(2):
        assert scene.do(records, worker, "compile").inputs["export"]["key"] == "export-x"
    scene.check_counters(records, [campaign])


def test_the_result_of_a_finished_job_stays_when_another_is_retried(records: Records) -> None:
    campaign = scene.submit(records, scene.job(), scene.job(cores=1))
    worker, card = scene.cpu(records), scene.card(records)
    make(records, worker, "export-x", "export")
    make(records, worker, "reference-x", "reference")
    make(records, worker, "compile-x", "compile")
    scene.do(records, card, "run", "device.0")
    scene.do(records, worker, "compare")
    fail(records, scene.must_claim(records, worker, "compile"))
    [done] = [n for n in (1, 2) if shown(records, campaign, n)["state"] == "done"]
    before = shown(records, campaign, done)
    assert before["export_s"] == 5.0
    assert records.retry([campaign], failed_only=True) == 1
    assert scene.claim(records, worker, "export") is None
    assert shown(records, campaign, done) == before


def test_a_retried_job_is_compared_though_its_reference_had_failed(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    scene.until_run(records, worker)
    scene.do(records, card, "run", "device.0")
    fail(records, scene.must_claim(records, worker, "reference"), "out of memory")
    assert records.status(campaign)["state"] == "done"
    assert records.retry([campaign], failed_only=False) == 1
    scene.do(records, card, "run", "device.0")
    scene.do(records, worker, "reference")
    scene.do(records, worker, "compare")
    assert records.status(campaign)["state"] == "done"
    assert records.results(campaign)[0]["flags"] == []
    scene.check_counters(records, [campaign])


def test_a_result_keeps_its_flag_when_its_reference_is_made_again_for_another(records: Records) -> None:
    campaign = scene.submit(records, scene.job(), scene.job(repeat=1))
    worker, card = scene.cpu(records), scene.card(records)
    scene.until_run(records, worker)
    for _ in range(2):
        scene.do(records, card, "run", "device.0")
    fail(records, scene.must_claim(records, worker, "reference"), "out of memory")
    before = records.results(campaign)
    assert [result["flags"] for result in before] == [["reference_failed"]] * 2
    assert records.retry([f"{campaign}.1"], failed_only=False) == 1
    scene.do(records, card, "run", "device.0")
    scene.do(records, worker, "reference")
    scene.do(records, worker, "compare")
    assert [result["flags"] for result in records.results(campaign)] == [[], ["reference_failed"]]


def test_a_failed_repair_that_the_job_does_not_name_starts_over_too(records: Records) -> None:
    """The export was repaired for the reference after the job had failed: the job names the old one."""
    campaign = scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    make(records, worker, "export-x", "export")
    make(records, worker, "compile-x", "compile")
    fail(records, scene.must_claim(records, card, "run", "device.0"))
    reference = scene.must_claim(records, worker, "reference")
    assert records.claims.repair(reference, "export", "export-x", "gone") == "wait"
    fail(records, scene.must_claim(records, worker, "export"), "hub down")
    assert records.retry([campaign], failed_only=True) == 1
    scene.until_run(records, worker)
    scene.do(records, worker, "reference")
    scene.do(records, card, "run", "device.0")
    scene.do(records, worker, "compare")
    assert records.status(campaign)["state"] == "done"
    scene.check_counters(records, [campaign])


def test_a_retried_job_may_repair_its_inputs_as_often_as_before(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)

    def until_spent() -> list[str]:
        answers: list[str] = []
        for _ in range(4):
            make(records, worker, "export-x", "export")
            claim = scene.must_claim(records, worker, "compile")
            answers.append(records.claims.repair(claim, "export", "export-x", "gone"))
            records.claims.absent("export-x")
        fail(records, claim, "the disk loses files")
        return answers

    assert until_spent() == ["wait"] * 3 + ["spent"]
    assert records.retry([campaign], failed_only=True) == 1
    assert until_spent() == ["wait"] * 3 + ["spent"]
    scene.check_counters(records, [campaign])


def test_a_cancelled_attempt_does_not_come_back_after_a_retry(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)
    old = scene.must_claim(records, worker, "export")
    records.cancel([campaign])
    assert records.retry([campaign], failed_only=False) == 1
    assert records.claims.renew(old.stage, old.token, worker) == "lost"
    assert records.claims.done(old.stage, old.token, {"key": "late"}) == "late"
    assert scene.must_claim(records, worker, "export").attempt == 2

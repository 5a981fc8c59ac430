"""Redis did what it was asked and its answer is lost: the client asks again, and it is done once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.domain.errors import Unreachable
from farm.domain.states import after_failure
from farm.records import Records, connect, keys
from farm.records.claims import Claim
from tests.records import scene
from tests.records.proxy import Proxy
from tests.redis_server import RedisProcess


@pytest.fixture
def proxy(redis_process: RedisProcess, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(redis_process.data / "redis.sock", tmp_path / "p")
    yield made
    made.close()


@pytest.fixture
def far(records: Records, redis_process: RedisProcess, proxy: Proxy, tmp_path: Path) -> Iterator[Records]:
    """The records as seen through the proxy."""
    url = redis_process.url.replace(str(redis_process.data / "redis.sock"), str(tmp_path / "p"))
    opened = Records(connect(url))
    for script in opened._scripts._scripts.values():  # Else the first answer were that it is not known.
        records.client.script_load(script.script)
    yield opened
    opened.client.close()


def state(records: Records, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = records.client.hgetall(keys.stage(stage))
    return found


def cut(proxy: Proxy, action: Callable[[], Any], nth: int = 0) -> Any:
    proxy.cut(nth)
    answer = action()
    assert proxy.has_cut, "the answer was not dropped"
    return answer


def test_a_claim_is_one_claim(records: Records, far: Records, proxy: Proxy) -> None:
    campaign = scene.submit(records, scene.job(), scene.job("bert-base-uncased"))
    worker = scene.cpu(records)
    claim: Claim = cut(proxy, lambda: far.claims.claim(worker, "export", "export", "n"))
    assert records.status(campaign)["stages"]["export"]["running"] == 1
    assert len(records.client.lrange(keys.attempts(claim.stage), 0, -1)) == 1
    assert state(records, claim.stage)["token"] == claim.token
    scene.check_counters(records, [campaign])


def test_what_ends_an_attempt_ends_it_once(records: Records, far: Records, proxy: Proxy) -> None:
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)
    claim = scene.must_claim(records, worker, "export")
    verdict = after_failure("host", claim.failures, ())
    assert cut(proxy, lambda: far.claims.ended(claim.stage, claim.token, verdict, error="disk")) == "again"
    assert json.loads(state(records, claim.stage)["failures"]) == {"host": 1}
    scene.advance(records, 60)
    records.fleet.tick("test")
    claim = scene.must_claim(records, worker, "export")
    assert cut(proxy, lambda: far.claims.hand_back(claim.stage, claim.token, claim.failures, "x")) == "again"
    claim = scene.must_claim(records, worker, "export")
    assert cut(proxy, lambda: far.claims.done(claim.stage, claim.token, {"key": "k", "bytes": 5})) == "again"
    assert records.status(campaign)["stages"]["compile"]["ready"] == 1
    attempts = records.client.lrange(keys.attempts(claim.stage), 0, -1)
    assert [json.loads(raw)["outcome"] for raw in attempts] == ["failed", "x", "done"]
    scene.check_counters(records, [campaign])


def test_an_artifact_has_one_builder_and_its_bytes_count_once(
    records: Records, far: Records, proxy: Proxy
) -> None:
    campaigns = [scene.submit(records, scene.job()) for _ in range(2)]
    a, b = scene.cpu(records, "a"), scene.cpu(records, "b")
    mine, theirs = scene.must_claim(records, a, "export"), scene.must_claim(records, b, "export")
    assert cut(proxy, lambda: far.claims.build(mine, "export-x")) == "build"
    assert cut(proxy, lambda: far.claims.build(theirs, "export-x")) == "lost", "it is parked"
    assert state(records, theirs.stage)["state"] == "waiting"
    cut(proxy, lambda: far.claims.done(mine.stage, mine.token, {"key": "export-x", "bytes": 7}))
    assert records.artifacts.stored() == 7
    again = scene.must_claim(records, b, "export")
    assert records.claims.build(again, "export-x") == "present"
    scene.check_counters(records, campaigns)


def test_a_lost_input_is_made_again_once(records: Records, far: Records, proxy: Proxy) -> None:
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)
    scene.do(records, worker, "export")
    compiling = scene.must_claim(records, worker, "compile")
    assert cut(proxy, lambda: far.claims.repair(compiling, "export", "export-x", "gone")) == "late"
    exports = records.status(campaign)["stages"]["export"]
    assert (exports["done"], exports["ready"]) == (1, 1)
    scene.do(records, worker, "export")
    assert scene.must_claim(records, worker, "compile").stage == compiling.stage
    scene.check_counters(records, [campaign])


def test_a_run_starts_once(records: Records, far: Records, proxy: Proxy) -> None:
    campaign = scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    scene.until_run(records, worker)
    claim = scene.must_claim(records, card, "run", "device.0")
    assert cut(proxy, lambda: far.claims.running(claim.stage, claim.token))
    assert cut(proxy, lambda: far.claims.renew(claim.stage, claim.token, card)) == "ok"
    assert records.fleet.cards_busy() == 1
    assert cut(proxy, lambda: far.claims.done(claim.stage, claim.token, {})) == "again"
    assert records.cards()[0]["done"] == 1
    scene.check_counters(records, [campaign])


def test_a_lost_ring_is_rung_again(records: Records, far: Records, proxy: Proxy) -> None:
    scene.submit(records, scene.job())
    scene.cpu(records)
    assert cut(proxy, far.fleet.ring) == [], "the bell counts as rung"
    records.client.hincrby("farm:bells:at", "export", -6000)
    assert records.fleet.ring() == ["export"]


def test_the_clock_follows_time_once(records: Records, far: Records, proxy: Proxy) -> None:
    for _ in range(5):
        cut(proxy, lambda: far.fleet.tick("test"))
    meta = records.client.hmget(keys.META, "clock", "wall")
    cut(proxy, lambda: far.fleet.tick("test"))
    after = records.client.hmget(keys.META, "clock", "wall")
    assert int(after[0]) - int(meta[0]) == int(after[1]) - int(meta[1])


def test_cancel_and_retry_count_what_they_did(records: Records, far: Records, proxy: Proxy) -> None:
    campaign = scene.submit(records, scene.job())
    reads = answers(proxy, lambda: far.queries.job_ids([campaign]))
    assert cut(proxy, lambda: far.cancel([campaign]), reads) == 1
    assert records.status(campaign)["jobs"]["cancelled"] == 1
    assert far.cancel([campaign]) == 0, "a second cancel is another one"
    assert cut(proxy, lambda: far.retry([campaign], failed_only=False), reads) == 1
    assert records.job(f"{campaign}.1")["archived"] == 1
    assert records.status(campaign)["stages"]["export"]["ready"] == 1
    scene.check_counters(records, [campaign])


def test_a_retry_whose_job_has_ended_meanwhile_is_not_done_twice(records: Records) -> None:
    """The answer is lost for so long that the job fails again before the client asks again."""
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)
    for nonce in ("one", "one", "two"):
        if records.status(campaign)["state"] != "failed":
            claim = scene.must_claim(records, worker, "export")
            verdict = after_failure("input", {}, [])
            records.claims.ended(claim.stage, claim.token, verdict, error="bad")
        assert records._scripts.run("retry", f"{campaign}.1", nonce) == 1
    assert records.job(f"{campaign}.1")["archived"] == 2


def answers(proxy: Proxy, action: Callable[[], Any]) -> int:
    """How many answers an action waits for."""
    proxy.cut(10**9)
    action()
    return proxy.answers


def test_a_submission_is_whole_whichever_of_its_answers_is_lost(
    records: Records, far: Records, proxy: Proxy
) -> None:
    jobs = [scene.job(repeat=n) for n in range(3)]
    most = answers(proxy, lambda: scene.submit(far, *jobs))
    assert most >= 4, "campaign, stages, jobs, open"
    for nth in range(most):
        campaign = cut(proxy, lambda: scene.submit(far, *jobs), nth)
        scene.check_counters(records, [campaign])
        assert [job["job"] for job in records.jobs(campaign)] == [f"{campaign}.{n}" for n in (1, 2, 3)]
        assert records.status(campaign)["jobs"]["total"] == 3
    assert len(records.campaigns()) == most + 1


def test_a_submission_that_may_have_been_recorded_says_how_to_know(
    records: Records, far: Records, proxy: Proxy
) -> None:
    most = answers(proxy, lambda: scene.submit(far, scene.job()))
    proxy.cut(most - 1, and_all_after=True)
    with pytest.raises(Unreachable, match=r"campaign \S+ was opened: .*`farm campaigns` tells"):
        scene.submit(far, scene.job())
    assert len(records.campaigns()) == 2

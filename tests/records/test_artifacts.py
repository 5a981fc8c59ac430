"""Which artifacts make way, which never do, and how one that was lost is made again."""

from __future__ import annotations

from farm.domain.job import StageKind
from farm.domain.sizes import MIB
from farm.records import Records
from farm.records.claims import MOST_REPAIRS, Claim
from tests.records import scene


def make(records: Records, worker: str, kind: StageKind, artifact: str, size: int = 100 * MIB) -> Claim:
    """Claim a stage and finish it with an artifact of `size` bytes."""
    claim = scene.must_claim(records, worker, kind)
    assert records.claims.build(claim, artifact) in ("build", "present")
    outcome = {"key": artifact, "bytes": size, "revision": "c0ffee"}
    assert records.claims.done(claim.stage, claim.token, outcome) == "ok"
    return claim


def finish(records: Records, worker: str, card: str, name: str) -> None:
    """All five stages of the only job that is open, its artifacts called after `name`."""
    make(records, worker, "export", f"export-{name}")
    make(records, worker, "compile", f"compile-{name}")
    make(records, worker, "reference", f"reference-{name}")
    scene.do(records, card, "run", "device.0")
    scene.do(records, worker, "compare")


def states(records: Records) -> dict[str, tuple[str, bool, int]]:
    return {row["key"]: (row["state"], row["needed"], row["jobs"]) for row in records.artifacts.overview()}


def test_what_an_unfinished_stage_needs_never_makes_way(records: Records) -> None:
    scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    make(records, worker, "export", "export-a")
    make(records, worker, "compile", "compile-a")
    assert records.artifacts.over(0) == []
    assert records.artifacts.condemn(["export-a", "compile-a"]) == []
    scene.do(records, card, "run", "device.0")
    assert states(records) == {"export-a": ("present", True, 1), "compile-a": ("present", True, 1)}
    assert records.artifacts.over(0) == [], "the comparison is to come"
    make(records, worker, "reference", "reference-a")
    scene.do(records, worker, "compare")
    assert set(records.artifacts.over(0)) == {"export-a", "compile-a", "reference-a"}


def test_the_least_recently_asked_for_goes_first_and_no_more_than_is_wanted(records: Records) -> None:
    worker, card = scene.cpu(records), scene.card(records)
    for name in ("a", "b"):
        scene.submit(records, scene.job(name))
        finish(records, worker, card, name)
    assert records.artifacts.stored() == 600 * MIB
    assert records.artifacts.over(600 * MIB) == []
    first = records.artifacts.over(450 * MIB)
    assert len(first) == 2
    assert set(first) < {"export-a", "compile-a", "reference-a"}
    # Asked for again by another campaign: it is needed, and the last in the order.
    scene.submit(records, scene.job("b"))
    make(records, worker, "export", "export-b")
    assert set(records.artifacts.condemn(600 * MIB)) == {
        "export-a", "compile-a", "reference-a", "compile-b", "reference-b",
    }  # fmt: skip


def test_a_condemned_artifact_is_removed_before_it_is_made_again(records: Records) -> None:
    worker, card = scene.cpu(records), scene.card(records)
    scene.submit(records, scene.job())
    finish(records, worker, card, "a")
    assert records.artifacts.condemn(["export-a"]) == ["export-a"]
    scene.submit(records, scene.job())
    claim = scene.must_claim(records, worker, "export")
    assert records.claims.build(claim, "export-a") == "condemned"
    assert records.artifacts.is_condemned("export-a")
    assert records.artifacts.gone("export-a")
    assert not records.artifacts.gone("export-a"), "once"
    assert records.artifacts.stored() == 200 * MIB
    assert records.claims.build(claim, "export-a") == "build"


def test_what_is_being_built_is_no_strange_artifact(records: Records) -> None:
    scene.submit(records, scene.job())
    claim = scene.must_claim(records, scene.cpu(records), "export")
    records.claims.build(claim, "export-a")
    assert records.artifacts.unknown(["export-a", "export-of-nobody"]) == ["export-of-nobody"]


def lose_export(records: Records, claim: Claim) -> str:
    return records.claims.repair(claim, "export", "export-a", "it is gone")


def test_a_lost_input_is_made_again_and_its_consumer_goes_on_uncounted(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker, card = scene.cpu(records), scene.card(records)
    first = make(records, worker, "export", "export-a")
    compiling = scene.must_claim(records, worker, "compile")
    assert lose_export(records, compiling) == "wait"
    assert scene.claim(records, worker, "compile") is None
    again = scene.must_claim(records, worker, "export")
    assert again.ask == {**first.ask, "again": "c0ffee"}, "the same revision, whatever the branch is now"
    assert records.claims.build(again, "export-a") == "build", "the entry went with the artifact"
    records.claims.done(again.stage, again.token, {"key": "export-a", "bytes": 1, "revision": "c0ffee"})
    make(records, worker, "compile", "compile-a")
    make(records, worker, "reference", "reference-a")
    scene.do(records, card, "run", "device.0")
    scene.do(records, worker, "compare")
    assert records.status(campaign)["state"] == "done"
    history = records.job(f"{campaign}.1")["history"]
    assert [e["outcome"] for e in history if e["stage"] == "compile"] == ["input lost", "done"]
    scene.check_counters(records, [campaign])


def test_two_consumers_of_a_lost_input_share_its_repair(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    one, two = scene.cpu(records, "one"), scene.cpu(records, "two")
    make(records, one, "export", "export-a")
    compiling, reference = (
        scene.must_claim(records, one, "compile"),
        scene.must_claim(records, two, "reference"),
    )
    assert lose_export(records, compiling) == "wait"
    assert lose_export(records, reference) == "wait"
    make(records, one, "export", "export-a")
    assert scene.claim(records, one, "export") is None
    assert records.status(campaign)["stages"]["compile"]["ready"] == 1
    assert records.status(campaign)["stages"]["reference"]["ready"] == 1
    scene.check_counters(records, [campaign])


def test_an_input_that_is_lost_again_and_again_is_given_up(records: Records) -> None:
    scene.submit(records, scene.job())
    worker = scene.cpu(records)
    make(records, worker, "export", "export-a")
    for _ in range(MOST_REPAIRS):
        assert lose_export(records, scene.must_claim(records, worker, "compile")) == "wait"
        make(records, worker, "export", "export-a")
    assert lose_export(records, scene.must_claim(records, worker, "compile")) == "spent"


def test_a_repair_asked_for_by_a_late_attempt_changes_nothing(records: Records) -> None:
    campaign = scene.submit(records, scene.job())
    worker = scene.cpu(records)
    make(records, worker, "export", "export-a")
    late = scene.must_claim(records, worker, "compile")
    records.claims.hand_back(late.stage, late.token, {}, "worker stopped")
    scene.must_claim(records, worker, "compile")
    assert lose_export(records, late) == "late"
    assert records.status(campaign)["stages"]["export"]["ready"] == 0

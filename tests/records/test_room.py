"""Admission: CPU stages beside one another by their node's memory and the store's limit."""

from __future__ import annotations

from collections import Counter

from farm.domain.plan import plan
from farm.domain.sizes import GIB, MIB
from farm.domain.states import after_failure
from farm.records import Records
from tests.records import scene

SMALL, LARGE = "prajjwal1/bert-tiny", "xlm-roberta-large"


def cpus(records: Records, count: int, memory: int, store: int | None = None) -> list[str]:
    names = [f"cpu-{n}" for n in range(count)]
    for name in names:
        records.fleet.register(name, scene.CPU, node="host", pid=1, memory=memory, store=store)
    return names


def export_memory(model: str) -> int:
    (export,) = (stage for stage in plan([scene.job(model)]).stages if stage.kind == "export")
    return export.need.memory


def rung(records: Records) -> Counter[str]:
    return Counter(records.fleet.ring())


def test_large_exports_wait_for_one_another_and_small_ones_pass(records: Records) -> None:
    scene.submit(records, scene.job(LARGE), scene.job("xlm-roberta-large-finetuned-conll03-english"))
    scene.submit(records, scene.job(SMALL))
    one, two, three = cpus(records, 3, export_memory(LARGE) + export_memory(SMALL) + 4 * MIB)
    assert rung(records)["export"] == 2, "no bell for what would not be admitted"
    assert scene.must_claim(records, one, "export").ask["model"] == LARGE
    assert scene.must_claim(records, two, "export").ask["model"] == SMALL
    assert scene.claim(records, three, "export") is None
    rung(records)
    (wait,) = records.status()["waits"]
    assert (wait["stage"], wait["for"], wait["stages"]) == ("export", "memory", 1)
    assert wait["needed"] > wait["free"]


def test_one_chain_is_admitted_whatever_it_needs(records: Records) -> None:
    scene.submit(records, scene.job(LARGE))
    (worker,) = cpus(records, 1, GIB, store=10 * MIB)
    assert rung(records)["export"] == 1
    assert scene.must_claim(records, worker, "export").ask["model"] == LARGE


def test_what_is_passed_over_for_long_gets_the_next_room(records: Records) -> None:
    models = (SMALL, LARGE, "prajjwal1/bert-mini", "prajjwal1/bert-small")
    scene.submit(records, *map(scene.job, models))
    one, two = cpus(records, 2, export_memory(LARGE))
    running = scene.must_claim(records, one, "export")
    rung(records)
    assert scene.must_claim(records, two, "export").ask["model"] == "prajjwal1/bert-mini"
    scene.advance(records, 61)
    records.claims.done(running.stage, running.token, {"key": "a"})
    assert rung(records)["export"] == 0
    assert scene.claim(records, one, "export") is None, "the next room is the large one's"


def test_a_stage_that_ran_out_of_memory_is_tried_again_alone(records: Records) -> None:
    scene.submit(records, scene.job(SMALL), scene.job("prajjwal1/bert-mini"))
    one, two = cpus(records, 2, 8 * GIB)
    first, second = scene.must_claim(records, one, "export"), scene.must_claim(records, two, "export")
    records.claims.ended(first.stage, first.token, after_failure("host", {}, []), error="killed", alone=True)
    scene.advance(records, 5)
    records.fleet.tick("test")
    assert scene.claim(records, one, "export") is None
    records.claims.done(second.stage, second.token, {"key": "b"})
    assert scene.must_claim(records, one, "export").stage == first.stage


def test_a_full_store_admits_what_can_make_room_and_what_evicts(records: Records) -> None:
    scene.submit(records, scene.job("a"), scene.job("b"))
    weights = next(s for s in plan([scene.job("a")]).stages if s.kind == "export").need.store
    one, two = cpus(records, 2, 64 * GIB, store=weights + weights // 2)
    first = scene.must_claim(records, one, "export")
    assert scene.claim(records, two, "export") is None
    rung(records)
    assert [wait["for"] for wait in records.status()["waits"]] == ["disk"]
    records.claims.build(first, "export-a")
    records.claims.done(first.stage, first.token, {"key": "export-a", "bytes": weights})
    # The second model waits while the first one's chain still can go on and then give its room back.
    assert scene.claim(records, two, "export") is None
    card = scene.card(records)
    for kind in ("compile", "reference"):
        claim = scene.must_claim(records, one, kind)
        records.claims.build(claim, f"{kind}-a")
        records.claims.done(claim.stage, claim.token, {"key": f"{kind}-a", "bytes": MIB})
    scene.do(records, card, "run", "device.0")
    scene.do(records, one, "compare")
    assert scene.must_claim(records, two, "export").ask["model"] == "b"
    assert "export-a" in records.artifacts.over(weights + weights // 2)

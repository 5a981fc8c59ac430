"""A coordinator gets SIGKILL behind each of its commands to Redis in turn: another goes on."""

from __future__ import annotations

import signal
import subprocess
import sys

import redis.connection

from farm.bells import Bells, make_app
from farm.coordinator import Coordinator
from farm.records import Records, connect
from tests.records import scene
from tests.records.promises import Snapshot, check
from tests.redis_server import RedisProcess

#: python -m tests.coordinator.test_killed URL N: a pass that ends itself behind its Nth command.
DOOMED = "tests.coordinator.test_killed"


def pass_that_dies(url: str, nth: int) -> None:
    coordinator = Coordinator(Records(connect(url)), Bells(make_app(url)), "doomed")
    left = nth
    send = redis.connection.AbstractConnection.send_packed_command

    def counted(self: redis.connection.AbstractConnection, *args: object, **kwargs: object) -> None:
        nonlocal left
        send(self, *args, **kwargs)  # type: ignore[no-untyped-call]
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGKILL)

    redis.connection.AbstractConnection.send_packed_command = counted  # type: ignore[method-assign]
    coordinator.step()


def test_wherever_a_coordinator_is_killed_the_next_one_goes_on(redis_process: RedisProcess) -> None:
    kills = 0
    while dies_behind(kills + 1, redis_process.url):
        kills += 1
    print(f"coordinator killed behind each of {kills} commands of a pass: 0 lost, 0 extra")
    assert kills > 10


def dies_behind(nth: int, url: str) -> bool:
    """Whether the pass had so many commands. Nothing is lost or done twice, killed there or not."""
    client = connect(url)
    client.flushall()
    records = Records(client)
    records.fleet.tick("test")
    campaign = scene.submit(records, scene.job(), scene.job("albert-base-v2"))
    gone = scene.cpu(records, "gone")
    lapsed = scene.must_claim(records, gone, "export")
    scene.advance(records, 16, beating=False)
    scene.cpu(records, "other")
    died = subprocess.run([sys.executable, "-m", DOOMED, url, str(nth)], timeout=60).returncode
    check(Snapshot(client))
    next_one = Coordinator(records, Bells(make_app(url)), "next")
    scene.advance(records, 6)  # bells that were rung and not delivered count as lost
    next_one.step()
    check(Snapshot(client))
    assert client.llen("export") >= 1, "it is rung for"
    for _ in range(2):
        scene.do(records, "other", "export")
    assert records.status(campaign)["stages"]["export"]["done"] == 2
    [attempts, others] = sorted((exports(records, campaign, nth) for nth in range(2)), key=len, reverse=True)
    assert (attempts, others) == (["lease lapsed", "done"], ["done"]), lapsed.stage
    check(Snapshot(client))
    client.close()
    assert died in (0, -signal.SIGKILL)
    return died != 0


def exports(records: Records, campaign: str, nth: int) -> list[str]:
    job = records.jobs(campaign)[nth]["job"]
    return [entry["outcome"] for entry in records.job(job)["history"] if entry["stage"] == "export"]


if __name__ == "__main__":
    pass_that_dies(sys.argv[1], int(sys.argv[2]))

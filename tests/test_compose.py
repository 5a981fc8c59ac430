"""The compose file: valid, its commands parse, and its access lists let in whom they should."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import redis
from click.testing import CliRunner
from ruamel.yaml import YAML

from farm.cli.compose import SERVICES, render
from farm.cli.main import cli
from farm.domain.errors import BadInput, Unreachable
from farm.domain.job import CardConfiguration, Job
from farm.domain.plan import plan
from farm.local.redis_server import find_server
from farm.records import Records, connect
from farm.sdk.devices import Device
from tests.cli.parsing import parse
from tests.redis_server import RedisProcess

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
PASSWORDS = {"FARM_WORKERS_PASSWORD": "work-secret", "FARM_READERS_PASSWORD": "read-secret"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe").load(COMPOSE)
    return document


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("check-jsonschema")
    words = [str(program), "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def test_it_is_what_the_compose_specification_allows() -> None:
    done = validate(COMPOSE)
    assert done.returncode == 0, done.stdout


def test_a_misspelt_key_would_be_seen(tmp_path: Path) -> None:
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(COMPOSE.read_text().replace("depends_on:", "depend_on:"))
    assert validate(broken).returncode != 0


def farm_services(compose: dict[str, Any]) -> dict[str, list[str]]:
    """The services that run the `farm` command, with the words after it."""
    return {
        name: service["command"]
        for name, service in compose["services"].items()
        if service["image"].startswith("aic-farm") and "command" in service
    }


def test_every_command_in_it_is_one_the_command_line_takes(compose: dict[str, Any]) -> None:
    commands = farm_services(compose)
    assert {"coordinator", "cpu", *(f"device-{n}" for n in range(SERVICES))} == set(commands)
    for words in commands.values():
        parse(words)


@pytest.mark.parametrize("words", [["worker", "gpu"], ["worker", "device"], ["coordinate"]])
def test_a_command_that_is_none_would_be_seen(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parse(words)


def test_each_card_has_its_worker_and_its_node(compose: dict[str, Any]) -> None:
    for n in range(SERVICES):
        service = compose["services"][f"device-{n}"]
        assert service["command"] == ["worker", "device", str(n)]
        assert service["devices"] == [f"/dev/accel/accel{n}:/dev/accel/accel{n}"]
        sdk = [volume for volume in service["volumes"] if volume.endswith(":/opt/qti-aic:ro")]
        assert len(sdk) == 1
        assert any("/run/lock/aic-farm" in volume for volume in service["volumes"])


def test_references_between_services_resolve(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith(("/", "$")) or source in compose["volumes"]
        for config in service.get("configs", []):
            assert config["source"] in compose["configs"]
        target = service.get("build", {}).get("target")
        assert target is None or f" AS {target}\n" in (ROOT / "Dockerfile").read_text()


def test_records_are_on_disk_before_they_are_answered_and_bells_are_not_kept(compose: dict[str, Any]) -> None:
    services = compose["services"]
    records, bells = (" ".join(services[name]["command"]) for name in ("records", "bells"))
    assert "--appendonly yes --appendfsync always" in records
    assert services["records"]["volumes"] == ["records:/data"]
    assert "--appendonly no" in bells


def test_no_password_is_in_a_command_line_or_in_the_file(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert "PASSWORD" not in " ".join(service.get("command", []))
    assert set(re.findall(r"\$\{(\w*PASSWORD)", COMPOSE.read_text())) == set(PASSWORDS)


@pytest.fixture(scope="module")
def servers(compose: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A Redis with the access list of each of the two, by name of the config: its socket."""
    sockets: dict[str, Path] = {}
    processes = []
    for name, config in compose["configs"].items():
        folder = tmp_path_factory.mktemp(name)
        text = re.sub(r"\$\{(\w+)[^}]*\}", lambda match: PASSWORDS[match[1]], config["content"])
        (folder / "users.acl").write_text(text)
        sockets[name] = folder / "s"
        words = [find_server(), "--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder)]
        words += ["--aclfile", str(folder / "users.acl"), "--save", "", "--logfile", str(folder / "log")]
        processes.append(subprocess.Popen(words, stdin=subprocess.DEVNULL))
    try:
        for socket, process in zip(sockets.values(), processes, strict=True):
            _await(url(socket), process)
        yield sockets
    finally:
        for process in processes:
            process.terminate()
            process.wait(20)


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            connect(address, retries=0).close()
            return
        except Unreachable as error:
            if "refuses" in str(error):
                raise
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"redis-server ended: {error}")
    pytest.fail("redis-server does not answer")


def url(socket: Path, user: str = "workers", password: str = "work-secret") -> str:
    return f"unix://{user}:{password}@{socket}"


def submit_one(records: Records) -> str:
    job = Job("bert-base-cased", "fill-mask", "balanced", CardConfiguration(1, 128, 1, 1, 1))
    return records.submit(plan([job]), label=None, priority=0, command=["test"])


def test_workers_may_do_what_the_farm_does_and_readers_may_look(servers: dict[str, Path]) -> None:
    records = Records(connect(url(servers["records-acl"])))
    records.fleet.tick("test")
    campaign = submit_one(records)
    assert records.cancel([campaign]) == 1
    reader = Records(connect(url(servers["records-acl"], "readers", "read-secret")))
    assert reader.latest() == campaign
    assert reader.status()["state"] == "cancelled"
    assert reader.coordinator_alive()
    assert len(reader.results()) == len(reader.jobs()) == 1
    reader.wait_change(0.01)
    with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission"):
        submit_one(reader)


def test_the_command_line_says_in_one_line_what_a_reader_may_not(servers: dict[str, Path]) -> None:
    records = Records(connect(url(servers["records-acl"])))
    campaign = submit_one(records)
    reader = url(servers["records-acl"], "readers", "read-secret")
    runner = CliRunner()
    assert runner.invoke(cli, ["--redis", reader, "status", campaign]).exit_code == 0
    refused = runner.invoke(cli, ["--redis", reader, "cancel", campaign])
    assert refused.exit_code == 3
    assert refused.stderr.startswith("farm: Redis: ")
    assert "read-secret" not in refused.stderr


def test_a_reader_cannot_write_by_any_command_nor_stop_others(
    servers: dict[str, Path], redis_process: RedisProcess
) -> None:
    owner = connect(redis_process.url)
    commands = owner.execute_command("COMMAND")
    reader = connect(url(servers["records-acl"], "readers", "read-secret"))
    writes = [name for name, facts in commands.items() if "write" in facts["flags"]]
    assert len(writes) > 80
    scripts = [["EVAL", "return redis.call('DEL', 'farm:meta')", "0"], ["PUBLISH", "farm:changed", "x"]]
    stops = [
        ["CLIENT", "PAUSE", "1"],
        ["CLIENT", "KILL", "TYPE", "normal"],
        ["SCRIPT", "FLUSH"],
        ["FLUSHALL"],
    ]
    for words in (
        [[name, *["farm:x"] * (abs(commands[name]["arity"]) - 1)] for name in writes] + scripts + stops
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            reader.execute_command(*words)
    with pytest.raises(redis.exceptions.NoPermissionError):
        reader.get("elsewhere")


def test_doctor_tells_what_an_account_may_see(servers: dict[str, Path]) -> None:
    Records(connect(url(servers["records-acl"]))).fleet.tick("test")
    for user, password in (("workers", "work-secret"), ("readers", "read-secret")):
        address = url(servers["records-acl"], user, password)
        result = CliRunner().invoke(cli, ["--redis", address, "doctor"])
        assert "looking at it failed" not in result.stdout
        assert "ok    coordinator: at work" in result.stdout
        assert "ok    Redis access: a password is asked for" in result.stdout
        assert ("tells this account nothing" in result.stdout) == (user == "readers")
        assert password not in result.stdout


def test_nobody_administers_and_nobody_is_let_in_without_a_name(servers: dict[str, Path]) -> None:
    for socket in servers.values():
        worker = connect(url(socket))
        for words in (
            ["CONFIG", "GET", "*"],
            ["FLUSHALL"],
            ["SHUTDOWN"],
            ["ACL", "LIST"],
            ["DEBUG", "SLEEP", "0"],
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                worker.execute_command(*words)
        with pytest.raises(Unreachable):
            connect(f"unix://{socket}", retries=0)


def test_bells_ring_through_their_access_list(servers: dict[str, Path]) -> None:
    from farm.bells import Bells, make_app

    with make_app(url(servers["bells-acl"])) as app:
        assert Bells(app).ring(["device.3", "export"]) == ()
        with app.connection_for_read() as connection:
            message = connection.SimpleQueue("device.3").get(timeout=10)
            assert message.headers["task"] == "tasks.run"
            message.ack()


def test_the_override_names_this_hosts_nodes(tmp_path: Path) -> None:
    present = tmp_path / "accel5"
    present.touch()
    text = render([Device(0, "Ready", node=str(present)), Device(9, "Ready", node="/dev/qaic_aic100_1")])
    override = tmp_path / "docker-compose.override.yml"
    override.write_text(text)
    document = YAML(typ="safe").load(text.replace("!override ", ""))["services"]
    assert document["device-0"]["devices"] == [f"{present}:{present}"]
    assert document["device-0"]["group_add"] == [str(present.stat().st_gid)]
    assert document["device-9"]["command"] == ["worker", "device", "9"]
    assert "group_add" not in document["device-9"]
    assert all(document[f"device-{n}"]["profiles"] == ["no-card"] for n in range(1, SERVICES))
    override.write_text(text.replace("!override ", ""))
    assert validate(override).returncode == 0


def test_a_card_without_a_node_is_refused() -> None:
    with pytest.raises(BadInput, match="group qaic"):
        render([Device(0, "Error")])

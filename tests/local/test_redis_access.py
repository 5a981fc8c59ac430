"""Who may speak to the embedded Redis: this user's processes that know its password, over its socket."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from farm.domain.errors import Unreachable
from farm.records import connect
from tests.redis_server import RedisProcess


@pytest.fixture(params=[True, False], ids=["records", "bells"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisProcess]:
    process = RedisProcess(durable=request.param)
    process.start()
    yield process
    process.stop()


def said(path: str, request: bytes) -> bytes:
    """What the server answers to a client that only says this."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(path)
        client.sendall(request)
        return client.recv(4096)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_client_without_the_password_is_refused(server: RedisProcess) -> None:
    path = server.url.rpartition("@")[2]
    for url in (f"unix://{path}", f"unix://:wrong@{path}", f"unix://default:@{path}"):
        with pytest.raises(Unreachable) as refused:
            connect(url, retries=0)
        assert "password" in str(refused.value) or "auth" in str(refused.value).lower()
    for words in ("GET farm:meta", "CONFIG GET *", "SHUTDOWN NOSAVE", "EVAL 'return 1' 0", "PUBLISH a b"):
        assert said(path, f"{words}\r\n".encode()).startswith(b"-NOAUTH")
    assert connect(server.url).ping()


def test_nothing_listens_but_a_socket_of_this_user_s(server: RedisProcess) -> None:
    assert server.process is not None
    assert psutil.Process(server.process.pid).net_connections(kind="inet") == []
    assert connect(server.url).config_get("port") == {"port": "0"}
    path = Path(server.url.rpartition("@")[2])
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert mode(path) == 0o700
    assert mode(server.folder) == mode(path.parent) == 0o700
    for secret in ("password", "redis.conf"):
        assert mode(path.parent / secret) == 0o600


def test_its_password_is_not_on_its_command_line(server: RedisProcess) -> None:
    assert server.process is not None
    password = server.url.removeprefix("unix://:").partition("@")[0]
    assert len(password) >= 24
    assert password not in " ".join(psutil.Process(server.process.pid).cmdline())


def test_a_request_that_a_web_page_could_send_is_cut_off(server: RedisProcess) -> None:
    """Redis ends a connection that speaks HTTP: nothing of it is taken for commands."""
    answer = said(server.url.rpartition("@")[2], b"POST / HTTP/1.1\r\nHost: x\r\n\r\nFLUSHALL\r\n")
    assert b"+OK" not in answer

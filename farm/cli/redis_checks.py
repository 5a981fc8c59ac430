"""What `farm doctor` looks at in a Redis: does it keep what it is told, has it room, who may speak to it."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from farm.cli.check import Check
from farm.domain.sizes import GIB, show_size
from farm.records.connection import Client

#: Beside the append-only file there is to be room for it to be written anew.
LEAST_FREE_BYTES = GIB
#: Between this host's clock and Redis's; logs of several hosts are hard to read beyond it.
MOST_SKEW_S = 2.0


def redis_checks(what: str, client: Client, *, durable: bool) -> Iterator[Check]:
    """The checks of one server. durable: it holds the records, which must survive it."""
    from redis.exceptions import NoPermissionError

    config = _config(client)
    try:
        info: dict[str, Any] = client.info()
    except NoPermissionError:
        yield Check(what, "note", "it answers, but tells this account nothing of itself")
    else:
        yield Check(what, "ok", f"version {info['redis_version']}")
        if durable:
            yield _durability(f"{what} on disk", info, config)
        yield _eviction(f"{what} memory", info)
    if durable and "dir" in config and _is_here(client):
        yield _disk(f"{what} disk", Path(config["dir"]))
    yield _access(f"{what} access", client, config)
    if durable:
        yield _clock(client)


def _config(client: Client) -> Mapping[str, str]:
    """What the server lets this account see of its settings: nothing, for the compose file's accounts."""
    from redis.exceptions import ResponseError

    try:
        settings: dict[str, str] = client.config_get("*")
    except ResponseError:
        return {}
    return settings


def _durability(what: str, info: Mapping[str, Any], config: Mapping[str, str]) -> Check:
    if not info["aof_enabled"]:
        return Check(what, "bad", "no append-only file: a restart loses what was done; set appendonly yes")
    if info.get("aof_last_write_status") not in (None, "ok"):
        return Check(what, "bad", "its last write to the append-only file failed: see its log and its disk")
    fsync = config.get("appendfsync")
    if fsync is None:
        return Check(what, "ok", "append-only file; this account does not see how often it is synced")
    if fsync != "always":
        return Check(what, "note", f"appendfsync {fsync}: a crash of its host loses the last second or more")
    return Check(what, "ok", "append-only file, appendfsync always")


def _eviction(what: str, info: Mapping[str, Any]) -> Check:
    used, most, policy = info["used_memory"], info.get("maxmemory") or 0, info.get("maxmemory_policy")
    seen = f"{show_size(used)} used, {f'at most {show_size(most)}' if most else 'no limit'}, {policy}"
    if policy != "noeviction":
        state: Any = "bad" if most else "note"
        return Check(what, state, f"{seen}: it would drop what it was told; set maxmemory-policy noeviction")
    if most and used > 0.9 * most:
        return Check(what, "bad", f"{seen}: nearly full, it will refuse to write; raise maxmemory")
    return Check(what, "ok", seen)


def _disk(what: str, folder: Path) -> Check:
    free = psutil.disk_usage(str(folder)).free
    seen = f"{show_size(free)} free in {folder}"
    return Check(what, "ok", seen) if free >= LEAST_FREE_BYTES else Check(what, "bad", f"{seen}: free some")


def _access(what: str, client: Client, config: Mapping[str, str]) -> Check:
    """Who can reach the server, and whether a password is asked of them."""
    where = client.connection_pool.connection_kwargs
    if where.get("password"):
        return Check(what, "ok", "a password is asked for")
    if config:
        closed = config["port"] == "0" and config.get("tls-port", "0") == "0"
        bound = [address.lstrip("-") for address in config.get("bind", "").split()]
        shut = closed or config.get("protected-mode") == "yes" or (bound and all(map(_is_loopback, bound)))
    else:
        shut = "path" in where or _is_loopback(where["host"])
    if shut:
        return Check(what, "note", "no password, but it is reached from this host only")
    way_out = "set a password (requirepass, or ACL users) or bind it to 127.0.0.1"
    return Check(what, "bad", f"no password, and it is reached from other hosts: {way_out}")


def _is_here(client: Client) -> bool:
    where = client.connection_pool.connection_kwargs
    return "path" in where or _is_loopback(where["host"])


def _is_loopback(host: str) -> bool:
    """Whether all addresses of a host's name are this host's own; a wildcard is not."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(address).is_loopback for address in found)


def _clock(client: Client) -> Check:
    """This host's clock against Redis's. Leases run on the farm clock: skew only confuses people."""
    before = time.time()
    seconds, micros = client.time()
    skew = (before + time.time()) / 2 - (seconds + micros / 1e6)
    seen = f"this host is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} Redis"
    return Check("clock", "note" if abs(skew) > MOST_SKEW_S else "ok", seen)

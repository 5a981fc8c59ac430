"""A connection to Redis that fails with one clear line, and retries only what may be repeated."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, ConnectionError, TimeoutError
from redis.retry import Retry

from farm.domain.errors import RecordsLost, Unreachable
from farm.records import keys
from farm.records.memory import FIELDS, Memory

log = logging.getLogger(__name__)

T = TypeVar("T")

#: A redis.Redis whose answers are str: its stubs type them as bytes or str, which says nothing.
Client: TypeAlias = Any

#: What a lost or starting Redis raises; every script may be repeated after it (nonces and tokens).
AWAY = (ConnectionError, TimeoutError, BusyLoadingError)


def hide_password(url: str) -> str:
    """The URL as it may be shown: the password replaced by ***."""
    head, at, tail = url.rpartition("@")
    if not at:
        return url
    scheme, _, credentials = head.partition("://")
    user = credentials.partition(":")[0]
    return f"{scheme}://{user}:***@{tail}"


def address_of(url: str) -> str:
    """What a URL names, whoever asks: without user and password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _known_only(memory: Memory) -> Callable[[Any], None]:
    """What a connection does first: only a connection may lead to another server than the one before."""

    def begin(connection: Any) -> None:
        def ask() -> list[str | None]:
            connection.send_command("HMGET", keys.META, *FIELDS)
            answer: list[str | None] = connection.read_response()
            return answer

        connection.on_connect()
        try:
            memory.verify(ask)
        except RecordsLost:
            connection.disconnect()
            raise

    return begin


def connect(url: str, *, retries: int = 3, timeout_s: float = 10.0, memory: Memory | None = None) -> Client:
    """A client of the server at `url` (redis://, rediss:// or unix://), seen to answer.

    memory: each connection is held against it, so that no command reaches other records than it knows.
    Raises Unreachable naming the URL and the way out, RecordsLost (which is Unreachable).
    """
    try:
        client = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=timeout_s,
            socket_connect_timeout=min(5.0, timeout_s),
            retry=Retry(ExponentialBackoff(cap=1, base=0.05), retries),
            retry_on_error=list(AWAY),
            redis_connect_func=None if memory is None else _known_only(memory),
        )
        client.ping()
    except ValueError as error:
        raise Unreachable(f"Redis URL {hide_password(url)!r}: {error}") from error
    except AuthenticationError as error:
        raise Unreachable(f"Redis at {hide_password(url)} refuses the password: {error}") from error
    except AWAY as error:
        raise Unreachable(
            f"cannot reach Redis at {hide_password(url)}: {error}; `farm up` starts one, --redis names one"
        ) from error
    return client


def patiently(
    action: Callable[[], T],
    *,
    give_up: Callable[[], bool] = lambda: False,
    pause: Callable[[float], object] = time.sleep,
) -> T:
    """The result of `action`, tried again each second while Redis is away, until `give_up()` is true."""
    told: type[Exception] | None = None
    while True:
        try:
            return action()
        except (*AWAY, Unreachable) as error:
            if give_up():
                raise
            if type(error) is not told:
                log.warning("%s; trying again each second", error, extra={"action": "away"})
                told = type(error)
            pause(1.0)

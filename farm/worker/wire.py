"""Messages between a worker and its keeper: one JSON object a packet, with file descriptors beside it."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

from farm.sdk.child import ChildResult, ChildSpec
from farm.sdk.launcher import CardLockRequest

#: A packet is a few paths and an argument vector; an argument vector larger than this is refused.
MAX_BYTES = 192 * 1024
MAX_FDS = 8


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a packet channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message. Raises OSError when the other side is gone."""
    data = json.dumps(message).encode()
    if len(data) > MAX_BYTES:
        raise ValueError(f"a message of {len(data)} bytes is more than {MAX_BYTES}")
    if fds:
        socket.send_fds(end, [data], list(fds))
    else:
        end.sendall(data)


def receive(end: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors, None when the other side is gone."""
    try:
        data, fds, _, _ = socket.recv_fds(end, MAX_BYTES, MAX_FDS)
    except ConnectionResetError:
        return None
    if not data:
        return None
    message: dict[str, Any] = json.loads(data)
    return message, fds


def spec_to_json(spec: ChildSpec) -> dict[str, Any]:
    """A child's specification as a message carries it."""
    return {**asdict(spec), "argv": list(spec.argv), "cwd": str(spec.cwd), "log": str(spec.log)}


def spec_from_json(data: dict[str, Any]) -> ChildSpec:
    """What `spec_to_json` made."""
    return ChildSpec(**{**data, "cwd": Path(data["cwd"]), "log": Path(data["log"])})


def result_to_json(result: ChildResult) -> dict[str, Any]:
    """A child's end as a message carries it."""
    return {**asdict(result), "log": str(result.log)}


def result_from_json(data: dict[str, Any]) -> ChildResult:
    """What `result_to_json` made."""
    return ChildResult(**{**data, "log": Path(data["log"]), "survivors": tuple(data["survivors"])})


def request_to_json(request: CardLockRequest) -> dict[str, Any]:
    """A hold asked for, as a message carries it."""
    return {**asdict(request), "folder": str(request.folder)}


def request_from_json(data: dict[str, Any]) -> CardLockRequest:
    """What `request_to_json` made."""
    return CardLockRequest(**{**data, "folder": Path(data["folder"])})

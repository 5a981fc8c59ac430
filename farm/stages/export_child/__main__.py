"""The child's loop: one JSON line in, one export, one JSON line out, until the other end closes.

The channel is the one socket this process inherits, so whoever starts it need not agree on a number;
stdout and stderr belong to the libraries and go to the log each request names.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import socket
import stat
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from farm.domain.errors import StageFailed

_MAX_ERROR_CHARS = 300
_HOST_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EROFS}


def inherited_channel() -> socket.socket:
    """The socket this process was started with. Raises SystemExit when there is not exactly one."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        fd = int(entry.name)
        try:
            if fd > 2 and stat.S_ISSOCK(os.fstat(fd).st_mode):
                found.append(fd)
        except OSError:  # the descriptor of the listing itself, closed by now
            continue
    if len(found) != 1:
        raise SystemExit(f"the exporter's child needs one socket, it was started with {len(found)}")
    return socket.socket(fileno=found[0])


def end_with_peer(channel: socket.socket) -> None:
    """Ends this process as soon as the other end is gone, also in the middle of an export."""

    def watch() -> None:
        poll = select.poll()
        poll.register(channel, select.POLLRDHUP)
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, name="end-with-peer", daemon=True).start()


def one_line(error: BaseException) -> str:
    """The error as one line for the user; the log has the rest."""
    text = " ".join(str(error).split())
    if not isinstance(error, StageFailed):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= _MAX_ERROR_CHARS else text[: _MAX_ERROR_CHARS - 1] + "…"


def kind_of(error: BaseException) -> str:
    """Whose fault an error is: the host's when memory or disk ran out, else the model's."""
    if isinstance(error, StageFailed):
        return error.kind
    host = (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno in _HOST_ERRNOS)
        or "can't allocate memory" in str(error)
    )
    return "host" if host else "input"


def serve(channel: socket.socket) -> None:
    """Answers requests until the channel closes."""
    from farm.stages.export_child import graph

    with channel.makefile("r", encoding="utf-8") as requests:
        for line in requests:
            request = json.loads(line)
            _log_to(Path(request["log"]))
            answer = _answer(request, graph)
            gc.collect()
            graph.release_memory()
            answer["rss_bytes"] = graph.memory("VmRSS")
            sys.stdout.flush()
            sys.stderr.flush()
            channel.sendall(json.dumps(answer).encode() + b"\n")


def _answer(request: dict[str, Any], graph: Any) -> dict[str, Any]:
    try:
        return {"facts": graph.export(request)}
    except graph.OpsetTooLow as error:
        return {"kind": "input", "error": str(error), "needs_opset": error.opset}
    except (
        Exception
    ) as error:  # any library may raise anything: it is this request's failure, not the child's
        traceback.print_exc()
        return {"kind": kind_of(error), "error": one_line(error)}


def _log_to(log: Path) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def main() -> None:
    """Runs the child."""
    channel = inherited_channel()
    end_with_peer(channel)
    serve(channel)


if __name__ == "__main__":
    main()

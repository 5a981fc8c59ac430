"""Downloads a model's files to the hub's cache: python -m farm.stages.hub_child REQUEST.json ANSWER.json

The hub's client resumes broken files and lets one process at a time download a file. This program says what
comes in plain lines, and tries again for as long as bytes do come.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from farm.domain.errors import StageFailed
from farm.stages.hub_errors import endpoint, hub_errors, hub_name, without_secrets

#: What is lost of a file when its connection breaks; the client's own is ten times as much.
_CHUNK_BYTES = 1024 * 1024
_MIB = 1024 * 1024


class _WithoutSecrets(logging.Formatter):
    """The client's warnings name URLs."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(record.getMessage())


class Progress:
    """Prints how much has come while the block lasts, at most each `every_s`, and only when more has.

    It looks at the cache, so what another process downloads for us counts too.
    """

    def __init__(self, blobs: Path, total: int | None, every_s: float) -> None:
        self._blobs = blobs
        self._total = total
        self._every_s = every_s
        self._before = self._size()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._print, name="progress", daemon=True)
        self.file = ""

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def bytes(self) -> int:
        """What has come since the start."""
        return self._size() - self._before

    def _size(self) -> int:
        total = 0
        for path in self._blobs.glob("*"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:  # just renamed: complete
                continue
        return total

    def _print(self) -> None:
        last = 0
        while not self._over.wait(self._every_s):
            if (come := self.bytes) != last:
                last = come
                of = "" if self._total is None else f" of {self._total / _MIB:.1f}"
                print(f"{self.file}: {come / _MIB:.1f}{of} MiB", flush=True)


def download(request: dict[str, Any]) -> None:
    """Downloads the request's files. Raises StageFailed as `farm.stages.hub` says."""
    from huggingface_hub import constants

    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK_BYTES
    model, revision = request["model"], request["revision"]
    sizes = request["files"].values()
    total = None if None in sizes else sum(sizes)
    much = "an unknown size" if total is None else f"{total / _MIB:.1f} MiB to come"
    print(f"downloading {model} at {revision} from {hub_name()}: {len(sizes)} files, {much}", flush=True)
    with Progress(Path(request["blobs"]), total, request["progress_s"]) as progress:
        for name in request["files"]:
            progress.file = name
            with hub_errors(model, revision):
                _file(request, name, progress)
        print(f"downloaded {progress.bytes / _MIB:.1f} MiB to {request['cache']}", flush=True)


def _file(request: dict[str, Any], name: str, progress: Progress) -> None:
    import requests
    from huggingface_hub import hf_hub_download

    while True:
        before = progress.bytes
        try:
            hf_hub_download(
                request["model"],
                name,
                revision=request["revision"],
                endpoint=endpoint(),
                cache_dir=request["cache"],
                etag_timeout=request["timeout_s"],
            )
            return
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            if progress.bytes <= before:
                raise
            print(f"{name}: the connection broke ({type(error).__name__}); going on from there", flush=True)


def main(request: Path, answer: Path) -> None:
    """Writes {} to `answer`, or {"kind", "error"}."""
    import huggingface_hub.utils  # its logger gets a handler of its own when it is first used

    handler = logging.StreamHandler()
    handler.setFormatter(_WithoutSecrets())
    logging.getLogger(huggingface_hub.__name__).handlers[:] = [handler]
    told: dict[str, str] = {}
    try:
        download(json.loads(request.read_text()))
    except StageFailed as error:
        told = {"kind": error.kind, "error": str(error)}
    except Exception as error:  # hf_xet raises what it likes
        print(without_secrets(traceback.format_exc()), flush=True)
        told = {"kind": "host", "error": f"download failed ({type(error).__name__}); the log has the rest"}
    answer.write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

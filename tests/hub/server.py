"""A model hub on loopback that serves folders as repositories, as far as huggingface_hub 0.36 asks.

`ROOT/<organisation>/<name>/` or `ROOT/<name>/` is a repository; its commit is a digest of its files.
`ROOT/hub.json`, read at each request, may hold
    {"prefix": "/path of a mirror", "token": "the one that opens what is closed",
     "moved": {old id: new id}, "branches": {id: {branch or tag: id of the repository that has its files}},
     "private": [id], "gated": [id: its listing is open, its files are not],
     "stalled": [id], "broken": {id: status}, "broken_files": {id: status}, "not_a_hub": true,
     "claimed_sizes": {file: bytes the listing says it has}, "commit": what each file is said to be of,
     "cut_after": bytes after which each answer breaks off, "stall_after": bytes after which it stands still}.
Run alone: python -m tests.hub.server --port 0 --root DIR
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

_API = re.compile(r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)")
#: What the hub's client takes for a listing, of no hub.
_CAPTIVE_PORTAL = "<html>Please sign in</html>"
_API_PART = re.compile(r"/api/models/(?P<repo>.+?)/(?P<what>tree|revision)/(?P<rev>[^/]+)(?:/(?P<path>.*))?")
_RESOLVE = re.compile(r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")


class HubServer(ThreadingHTTPServer):
    """The server; `requests` lists what it was asked, `url` is what HF_ENDPOINT is set to."""

    daemon_threads = True

    def __init__(self, root: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.root = root
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.closing = threading.Event()
        self._digests: dict[tuple[str, int, int], str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def settings(self) -> dict[str, Any]:
        """What hub.json says at this moment."""
        path = self.root / "hub.json"
        settings: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return settings

    def files(self, repo: str) -> dict[str, Path] | None:
        """The repository's files by name, None when there is no such repository."""
        folder = self.root / repo
        if ".." in Path(repo).parts or not folder.is_dir():
            return None
        if not any(path.is_file() for path in folder.iterdir()):
            return None  # an organisation's folder
        return {
            path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
        }

    def digest(self, path: Path) -> str:
        """SHA-256 of a file, computed once per size and modification time."""
        info = path.stat()
        mark = (str(path), info.st_size, info.st_mtime_ns)
        if mark not in self._digests:
            self._digests[mark] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self._digests[mark]

    def commit(self, files: dict[str, Path]) -> str:
        """Forty digits that change with any file of the repository."""
        listing = "\n".join(f"{name} {self.digest(path)}" for name, path in files.items())
        return hashlib.sha256(listing.encode()).hexdigest()[:40]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_HEAD(self) -> None:
        self._route(body=False)

    def do_GET(self) -> None:
        self._route(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the request for the tests instead of printing it."""
        self.server.requests.append(format % args)

    def _route(self, body: bool) -> None:
        if self.server.closing.is_set():  # a connection kept alive beyond the server's end
            self.close_connection = True
            return None
        settings = self.server.settings()
        url = urlsplit(self.path)
        prefix = settings.get("prefix", "")
        path = url.path.removeprefix(prefix)
        match = _API_PART.fullmatch(path) or _RESOLVE.fullmatch(path) or _API.fullmatch(path)
        if match is None or not url.path.startswith(prefix):
            return self._error(404, "", "no such page", body)
        part = {name: unquote(value) if value else value for name, value in match.groupdict().items()}
        repo = part["repo"] or ""
        if settings.get("not_a_hub"):
            return self._send(200, "text/html", _CAPTIVE_PORTAL.encode(), body)
        if repo in settings.get("stalled", ()):
            self.server.closing.wait(120)
            self.close_connection = True
            return None
        if repo in settings.get("broken", {}):
            return self._error(settings["broken"][repo], "", "the hub is broken", body)
        if repo in settings.get("moved", {}):
            return self._moved(prefix + path.replace(repo, settings["moved"][repo], 1))
        said = self.headers.get("Authorization", "")
        opened = "token" in settings and said == f"Bearer {settings['token']}"
        is_file = not path.startswith("/api/")
        if is_file and repo in settings.get("gated", ()) and not opened:
            return self._error(403 if said else 401, "GatedRepo", f"Access to {repo} is restricted.", body)
        files = self.server.files(repo)
        if files is None or (repo in settings.get("private", ()) and not opened):
            return self._error(404 if said else 401, "RepoNotFound", "Repository not found", body)
        if is_file and repo in settings.get("broken_files", {}):
            return self._error(settings["broken_files"][repo], "", "the hub is broken", body)
        found = self._at(repo, part.get("rev"), files, settings)
        if found is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {part['rev']}", body)
        files = found
        commit = self.server.commit(files)
        if not is_file:
            return self._api(repo, part, commit, files, body, settings.get("claimed_sizes", {}))
        return self._file(files.get(part["path"] or ""), commit, body, settings)

    def _at(
        self, repo: str, revision: str | None, main: dict[str, Path], settings: dict[str, Any]
    ) -> dict[str, Path] | None:
        """The files at a branch, tag or commit."""
        branches = {"main": main}
        for name, place in settings.get("branches", {}).get(repo, {}).items():
            branches[name] = self.server.files(place) or {}
        commits = {self.server.commit(files): files for files in branches.values()}
        return (branches | commits).get(revision or "main")

    def _api(
        self,
        repo: str,
        part: dict[str, str | None],
        commit: str,
        files: dict[str, Path],
        body: bool,
        claimed: dict[str, int],
    ) -> None:
        if part.get("what") != "tree":
            siblings: list[dict[str, Any]] = [{"rfilename": name} for name in files]
            if "blobs=True" in urlsplit(self.path).query:
                siblings = [
                    {
                        "rfilename": name,
                        "size": claimed.get(name, path.stat().st_size),
                        "blobId": self.server.digest(path),
                    }
                    for name, path in files.items()
                ]
            info = {"_id": commit[:24], "id": repo, "modelId": repo, "sha": commit, "siblings": siblings}
            return self._json({**info, "private": False, "tags": []}, body)
        below = f"{part['path']}/" if part.get("path") else ""
        entries = [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": self.server.digest(path)[:40]}
            for name, path in files.items()
            if name.startswith(below)
        ]
        return self._json(entries, body)

    def _file(self, path: Path | None, commit: str, body: bool, settings: dict[str, Any]) -> None:
        if path is None:
            return self._error(404, "EntryNotFound", "Entry not found", body, commit)
        size = path.stat().st_size
        start = self._range_start(size)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("ETag", f'"{self.server.digest(path)}"')
        self.send_header("X-Repo-Commit", settings.get("commit", commit))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if body:
            left = limit = min(size - start, settings.get("cut_after", settings.get("stall_after", size)))
            with path.open("rb") as file:
                file.seek(start)
                while block := file.read(min(left, 1 << 20)):
                    self.wfile.write(block)
                    left -= len(block)
            if limit < size - start:
                self.wfile.flush()
                if "stall_after" in settings:
                    self.server.closing.wait(120)
                self.close_connection = True
        return None

    def _range_start(self, size: int) -> int:
        if "Range" in self.headers:
            self.server.ranges.append(self.headers["Range"])
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match and int(match[1]) < size else 0

    def _moved(self, location: str) -> None:
        self.send_response(307)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _error(self, status: int, code: str, message: str, body: bool, commit: str = "") -> None:
        self._json({"error": message}, body, status, {"X-Error-Code": code, "X-Repo-Commit": commit})

    def _json(self, value: Any, body: bool, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(value).encode(), body, headers or {})

    def _send(
        self,
        status: int,
        kind: str,
        data: bytes,
        body: bool,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.send_response(status)
        for name, text in headers.items():
            if text:
                self.send_header(name, text)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@contextmanager
def serving(root: Path) -> Iterator[HubServer]:
    """A hub in this process, on a port of its own."""
    server = HubServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def main() -> None:
    """Serves until it is ended; the first line printed is the URL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--root", type=Path, required=True)
    options = parser.parse_args()
    with HubServer(options.root, options.port) as server:
        print(server.url, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()

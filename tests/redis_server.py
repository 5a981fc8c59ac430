"""A real Redis for a test: started on a unix socket, ended by its pid."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from farm.domain.errors import Unreachable
from farm.local.redis_server import configure
from farm.records import connect


class RedisProcess:
    """One server over one folder; it can be killed and started again on the same data."""

    def __init__(self, *, durable: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="farm-redis-"))
        self._server = configure(self.folder, "r", durable=durable)
        self.data = self.folder / "r"
        self.url = self._server.url
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(self._server.argv, stdin=subprocess.DEVNULL)
        for _ in range(600):
            try:
                connect(self.url, retries=0).close()
                return
            except Unreachable:
                try:
                    self.process.wait(0.05)
                    raise RuntimeError(f"redis-server ended: see {self.folder}")
                except subprocess.TimeoutExpired:
                    continue
        raise RuntimeError("redis-server does not answer")

    def save(self, to: Path) -> None:
        """Copy what is on its disk, as a backup does while it runs."""
        shutil.copytree(self.data, to, ignore=shutil.ignore_patterns("*.sock"))

    def put(self, saved: Path | None) -> None:
        """While it is down: have what was saved on its disk; None: nothing."""
        for path in self.data.glob("appendonly*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if saved is not None:
            shutil.copytree(saved, self.data, dirs_exist_ok=True)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it and remove its data."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)

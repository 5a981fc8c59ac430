"""A proxy before a Redis that drops one answer: the command was done, and who asked does not learn of it."""

from __future__ import annotations

import select
import socket
import sys
import threading
from pathlib import Path


class Proxy:
    """Listens on a unix socket and passes everything on to `server`, but for the one answer `cut` names."""

    def __init__(self, server: Path, at: Path) -> None:
        self._server = str(server)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(at))
        self._listener.listen()
        self._left: int | None = None
        self._stays = False
        #: How many there were since `cut`.
        self.answers = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self, nth: int, *, and_all_after: bool = False) -> None:
        """The nth answer from now on (0: the next) is dropped, and with it its connection."""
        self._left, self._stays, self.answers = nth, and_all_after, 0

    @property
    def has_cut(self) -> bool:
        """Whether the answer that was named has been dropped."""
        return self._left is None

    def close(self) -> None:
        """Once its clients have closed their connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server)
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(1 << 20)
                    if not data or (end is server and self._is_named()):
                        return
                    (client if end is server else server).sendall(data)

    def _is_named(self) -> bool:
        self.answers += 1
        named = self._left == 0
        if self._left is not None and not (named and self._stays):
            self._left = None if named else self._left - 1
        return named


if __name__ == "__main__":  # SERVER AT: a wire that is cut by SIGSTOP
    Proxy(Path(sys.argv[1]), Path(sys.argv[2]))

"""The lock of one physical card: a file, one byte per NSP, locked by open file description.

The lock lasts as long as any process holds the descriptor, so a child that inherits it keeps the card
locked even when the process that took the lock is killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from farm.domain.errors import BadInput

#: Where the locks of real cards are kept, the same for every farm, user and container of a host.
HOST_FOLDER = Path("/run/lock/aic-farm")

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")
_EVERYBODY = 0o666
#: The kernel's struct flock: type, whence, start, length, pid.
_FLOCK = "hhqqi0q"
#: A note has one length, so that a shorter one leaves nothing of a longer one behind.
_NOTE_BYTES = 64


def lock_folder(sdk_root: Path) -> Path:
    """The folder of the card locks: FARM_LOCK_DIR, else the emulated root's own, else the host's."""
    if chosen := os.environ.get("FARM_LOCK_DIR"):
        return Path(chosen)
    return sdk_root / "lock" if (sdk_root / "emulator.json").exists() else HOST_FOLDER


@dataclass(frozen=True)
class HeldCard:
    """A card that somebody holds, as its holder noted it in the lock's file.

    Nobody asks a card that measures. qid is None where the holder noted nothing.
    """

    pci_address: str
    qid: int | None
    nsp_total: int | None
    #: Processes that hold it, as far as this user may see.
    pids: tuple[int, ...]


def held_cards(folder: Path) -> list[HeldCard]:
    """The cards whose lock in `folder` is held, by anybody, right now."""
    held = []
    for path in _lock_files(folder):
        if _is_held(path):
            qid, nsp_total = _read_note(path)
            held.append(HeldCard(path.stem, qid, nsp_total, tuple(holder_pids(path))))
    return held


def last_lock(folder: Path, qid: int) -> CardLock | None:
    """The lock, not taken, of the card that had this QID when it was last held; None where none had."""
    for path in _lock_files(folder):
        noted, nsp_total = _read_note(path)
        if noted == qid and nsp_total is not None:
            return CardLock(folder, path.stem, nsp_total)
    return None


def _lock_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.lock")) if _ADDRESS.fullmatch(path.stem)]


class CardLock:
    """The lock of the card at `pci_address` (e.g. 0000:01:00.0), which has `nsp_total` cores.

    Raises BadInput where the lock file cannot be made or opened, or the address is not one.
    """

    def __init__(self, folder: Path, pci_address: str, nsp_total: int) -> None:
        if not _ADDRESS.fullmatch(pci_address):
            raise BadInput(f"PCI address {pci_address!r}: not of the form 0000:01:00.0")
        self.path = folder / f"{pci_address}.lock"
        self.nsp_total = nsp_total
        try:
            _make_folder(folder)
            self._descriptor = _open_shared(self.path)
        except OSError as error:
            raise BadInput(
                f"card lock {self.path}: {error.strerror}; make the folder writable or set FARM_LOCK_DIR"
            ) from error

    def try_exclusive(self) -> bool:
        """Take the whole card. False where anybody holds any of it."""
        return self._set(fcntl.F_WRLCK, 0, 0)  # length 0: to the end, however many cores others count

    def try_share(self, cores: int) -> tuple[int, ...] | None:
        """Take `cores` of the card's cores; their numbers, or None where too few are free."""
        taken: list[int] = []
        for core in range(self.nsp_total):
            if len(taken) == cores:
                break
            if self._set(fcntl.F_WRLCK, core, 1):
                taken.append(core)
        if len(taken) == cores:
            return tuple(taken)
        for core in taken:
            self._set(fcntl.F_UNLCK, core, 1)
        return None

    def note(self, qid: int) -> None:
        """Write the card's present QID into the file, for those who must not ask a card that is held."""
        text = json.dumps({"qid": qid, "nsp_total": self.nsp_total})
        os.pwrite(self._descriptor, text.ljust(_NOTE_BYTES).encode(), 0)

    def release(self) -> None:
        """Let go of this process's hold. A child that inherited the descriptor holds the lock on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)  # not unlocked: that would take it from the child too
            self._descriptor = -1

    def fileno(self) -> int:
        """The descriptor to pass to children."""
        return self._descriptor

    def holder_pids(self) -> list[int]:
        """Processes that hold the lock, as far as this user may see (for messages)."""
        return holder_pids(self.path)

    def _set(self, kind: int, start: int, length: int) -> bool:
        request = struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, request)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True


def holder_pids(path: Path) -> list[int]:
    """Processes with a lock on the file, found through the lock lines of their descriptors.

    /proc/locks cannot tell: a lock by open file description belongs to no process there.
    """
    try:
        wanted = path.stat()
    except FileNotFoundError:
        return []
    holders = []
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            for entry in folder.iterdir():
                with contextlib.suppress(OSError):
                    if os.path.samestat(entry.stat(), wanted) and _holds_lock(entry):
                        holders.append(int(folder.parent.name))
                        break
    return sorted(holders)


def _holds_lock(descriptor: Path) -> bool:
    info = descriptor.parent.parent / "fdinfo" / descriptor.name
    return any(line.startswith("lock:") for line in info.read_text().splitlines())


def _is_held(path: Path) -> bool:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            request = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
            found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, request)
            return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)
        finally:
            os.close(descriptor)
    return False


def _read_note(path: Path) -> tuple[int | None, int | None]:
    try:
        note = json.loads(path.read_text())
        return int(note["qid"]), int(note["nsp_total"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None  # a holder that noted nothing


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    folder.chmod(0o1777)  # every user's farm shares it, nobody removes another's file


def _open_shared(path: Path) -> int:
    """Open the file for locking, made if need be.

    In two steps, since in a sticky folder the kernel may refuse O_CREAT on another user's existing file
    (fs.protected_regular).
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, _EVERYBODY)
                if stat.S_IMODE(os.fstat(descriptor).st_mode) != _EVERYBODY:
                    os.fchmod(descriptor, _EVERYBODY)  # the umask took from it
                return descriptor

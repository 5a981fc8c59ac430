"""The errors a user can meet. Each message is one line: the value, the cause and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from farm.domain.text import one_line

if TYPE_CHECKING:
    from farm.domain.job import StageKind

#: Why a stage's attempt failed, and so what may follow (docs/states.md):
#: input = the job's own fault; busy = another tenant; card = this card; host = this host.
FailureKind = Literal["input", "busy", "card", "host"]


class FarmError(Exception):
    """Something went wrong; the message says what and what to do, on one printable line."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class BadInput(FarmError):
    """What the user asked for cannot be done: unknown name, impossible value, malformed file."""

    exit_code = 2


class Unreachable(FarmError):
    """Redis cannot be reached, or no coordinator is there."""

    exit_code = 3


class RecordsLost(Unreachable):
    """A Redis answers, but not with the records the farm worked with: empty, older or another farm's.

    To a process that works it is as if Redis were away: it keeps what it has and tries again.
    """


class StageFailed(FarmError):
    """An attempt at a stage failed.

    kind says who is to blame; log is the path of the attempt's log (None where there is none).
    out_of_memory: the kernel ended it, as it does for want of memory; it is tried again with more of it.
    """

    def __init__(
        self, kind: FailureKind, message: str, log: str | None = None, *, out_of_memory: bool = False
    ) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.log = log
        self.out_of_memory = out_of_memory


class InputLost(StageFailed):
    """An artifact that the stage was promised is gone or not what it was: it is to be made again.

    producer is the kind of the stage that made the artifact `key`.
    """

    def __init__(self, producer: StageKind, key: str, message: str) -> None:
        super().__init__("host", message)
        self.producer: StageKind = producer
        self.key = key

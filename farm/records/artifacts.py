"""What the records know of the artifacts in the store, and how they are given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from farm.domain.result import iso
from farm.records import keys
from farm.records.scripts import Scripts

#: Artifacts looked at in one script, so that none holds Redis for long.
BATCH = 20


class Artifacts:
    """Which artifacts are there and needed. Removal: condemn, remove from the store, tell that it is gone.

    Only what no unfinished stage needs is condemned. farm.worker.eviction removes what was.
    """

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._redis = scripts.client

    def overview(self) -> list[dict[str, Any]]:
        """One record an artifact, the least recently asked for first.

        {"key", "kind", "bytes", "used": ISO time it was last asked for, "state": present|condemned|building,
        "needed", "jobs": how many unfinished jobs need it}
        """
        found: list[str] = self._redis.zrange(keys.ARTIFACTS, 0, -1)
        rows = []
        for start in range(0, len(found), BATCH):
            part = found[start : start + BATCH]
            for key, (state, size, used, needed, jobs) in zip(
                part, self._scripts.run("overview", *part), strict=True
            ):
                if state:
                    rows.append(
                        {
                            "key": key,
                            "kind": key.partition("-")[0],
                            "bytes": int(size),
                            "used": iso(used),
                            "state": state,
                            "needed": bool(needed),
                            "jobs": jobs,
                        }
                    )
        return rows

    def unknown(self, found: Sequence[str]) -> list[str]:
        """Those of the artifacts found in a store that the records have no entry of."""
        pipe = self._redis.pipeline(transaction=False)
        for key in found:
            pipe.exists(keys.artifact(key))
        return [key for key, known in zip(found, pipe.execute(), strict=True) if not known]

    def stored(self) -> int:
        """Bytes of all artifacts the records know of."""
        return int(self._redis.hget(keys.META, "stored") or 0)

    def over(self, limit: int) -> list[str]:
        """Condemn what is not needed until the store keeps `limit` bytes, claimed stages' estimates included.

        Answers the artifacts to remove, least recently asked for first; also what others left condemned.
        """
        return list(self._scripts.run("condemn", 0, limit))

    def condemn(self, what: int | Sequence[str]) -> list[str]:
        """Condemn artifacts that are not needed: so many bytes of them, or those named. Answers as `over`."""
        if isinstance(what, int):
            return list(self._scripts.run("condemn", what, ""))
        return list(self._scripts.run("condemn", 0, "", *what)) if what else []

    def is_condemned(self, key: str) -> bool:
        """Whether the artifact is to be removed. Ask and remove it under the store's lock."""
        return bool(self._redis.hget(keys.artifact(key), "state") == "condemned")

    def gone(self, key: str) -> bool:
        """The condemned artifact was removed from the store. False when it was not condemned (any more)."""
        return bool(self._scripts.run("gone", key))

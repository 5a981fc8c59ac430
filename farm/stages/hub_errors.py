"""What the hub's client raises, as one line that names the model, the cause and the way out."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from farm.domain.errors import StageFailed

_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_QUERY = re.compile(r"\?\S*")
#: Answers that pass: the hub is asked again.
_PASSING = {408, 425, 429}


def endpoint() -> str:
    """The hub or mirror that HF_ENDPOINT names; set but empty, as compose does, it is the public one too."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def hub_name() -> str:
    """The hub as messages name it."""
    return without_secrets(endpoint())


def without_secrets(text: str) -> str:
    """The text without what a URL may carry: a mirror's password, the signature of a download link."""
    return _QUERY.sub("", _CREDENTIALS.sub("//", text))


def offline() -> bool:
    """Whether the user forbids contact with the hub."""
    said = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in {"1", "ON", "YES", "TRUE"} for value in said)


@contextmanager
def hub_errors(model: str, revision: str | None) -> Iterator[None]:
    """Raises StageFailed for what the hub's client raises in the block.

    "input": an id, revision or permission that is wrong; "host": a hub, network or disk that may recover.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # requests' and the client's own errors are of these
        failure = _failure(error, model, revision)
        if failure is None:
            raise
        raise failure from error


def _failure(error: BaseException, model: str, revision: str | None) -> StageFailed | None:
    import requests
    from huggingface_hub import errors

    hub = hub_name()
    match error:
        case errors.GatedRepoError():
            who = "HF_TOKEN's account has no access" if os.environ.get("HF_TOKEN") else "HF_TOKEN is not set"
            message = f"{model} is gated and {who}: accept its terms at {hub}/{model}"
            return StageFailed("input", f"{message} and set HF_TOKEN for the CPU workers")
        case errors.RepositoryNotFoundError():
            return StageFailed(
                "input", f"{model}: no such model on {hub}, or it is private; check the id or set HF_TOKEN"
            )
        case errors.RevisionNotFoundError():
            return StageFailed(
                "input", f"{model} has no revision {revision}; name a branch, a tag or a commit"
            )
        case errors.HFValidationError():
            return StageFailed("input", f"{model!r} is not a hub id; write NAME or ORGANISATION/NAME")
        case errors.LocalEntryNotFoundError() if offline():
            return StageFailed(
                "input",
                f"{model}{f' at {revision}' if revision else ''} is not in the hub's cache and "
                "HF_HUB_OFFLINE is set; download it or unset that",
            )
        case errors.LocalEntryNotFoundError():  # the client's word for any failed question about a file
            cause = error.__cause__
            known = _failure(cause, model, revision) if cause is not None else None
            return known or StageFailed("host", f"{model}: cannot reach {hub}; {_WAYS_OUT}")
        case errors.EntryNotFoundError():
            return StageFailed("input", f"{model}: a file its listing names is missing on {hub}")
        case errors.FileMetadataError():
            return StageFailed(
                "host", f"{model}: {hub} does not answer as a hub does (no ETag or commit); check HF_ENDPOINT"
            )
        case errors.HfHubHTTPError() if error.response is not None:
            return _refusal(error.response.status_code, model, hub)
        case requests.exceptions.InvalidJSONError():
            return StageFailed("host", f"{model}: {hub} does not answer as a hub does; check HF_ENDPOINT")
        case requests.RequestException():
            return StageFailed("host", f"{model}: cannot reach {hub} ({type(error).__name__}); {_WAYS_OUT}")
        case OSError():
            return _disk(error, model)
    return None


_WAYS_OUT = "check the network and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use the hub's cache"


def _refusal(status: int, model: str, hub: str) -> StageFailed:
    if status == 429:
        message = f"{hub} answered HTTP 429 (too many requests); wait, or set HF_TOKEN for a higher limit"
    elif status in (401, 403):
        message = f"{hub} refuses access (HTTP {status}); check HF_TOKEN"
    elif status == 404:
        message = f"not found on {hub} (HTTP 404); check the id and HF_ENDPOINT"
    else:
        message = f"{hub} answered HTTP {status}; try again later"
    passing = status >= 500 or status in _PASSING
    return StageFailed("host" if passing else "input", f"{model}: {message}")


def _disk(error: OSError, model: str) -> StageFailed:
    where = f" to {error.filename}" if error.filename else ""
    way_out = "; free some space or set HF_HOME to a larger disk"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        way_out = "; set HF_HOME to a folder the workers may write" if error.errno else ""
    return StageFailed("host", f"{model}: download failed{where}: {error.strerror or error}{way_out}")

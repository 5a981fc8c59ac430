"""The models file of `farm submit`: one model a line, options of its jobs after it, `#` comments."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from farm.domain.errors import BadInput
from farm.domain.names import show, split_model, why
from farm.domain.options import BY_FLAG, Option, Request


def read_models_file(path: str | Path, base: Request) -> list[Request]:
    """A request a line: the model and its options, over `base`, which is what the command line says.

    Options are those of OPTIONS, `--name value`, `--name=value` or `-n value`. A `#` starts a comment where a
    word could start. Raises BadInput naming file and line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise BadInput(f"models file {show(str(path))} cannot be read: {why(error)}") from None
    requests = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            words = _words(line)
            if words:
                requests.append(_request(words, base))
        except (BadInput, ValueError) as error:
            raise BadInput(f"{path}, line {number}: {error}") from None
    if not requests:
        raise BadInput(f"{path} names no model; write one a line")
    return requests


def _words(line: str) -> list[str]:
    """The line split as a shell would, nothing expanded; a word that starts with `#` begins a comment.

    shlex's own comments would cut `bert#large` down to `bert`.
    """
    stream = io.StringIO(line)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    while not line[stream.tell() :].lstrip().startswith("#"):
        word = lexer.get_token()
        if word is None:
            break
        words.append(word)
    return words


def _request(words: list[str], base: Request) -> Request:
    model, *rest = words
    split_model(model)
    values: dict[str, Any] = {}
    for option, text in _pairs(rest):
        value = option.value if text is None else option.parse(text)
        if option.field not in values:
            values[option.field] = value
        elif option.kind in ("wholes", "choices", "devices"):
            values[option.field] += value
        else:
            raise BadInput(f"{option.flags[0]} is given twice")
    request = replace(base, models=(model,), **values)
    request.check()
    return request


def _pairs(words: list[str]) -> Iterator[tuple[Option, str | None]]:
    """Each option with its text, None for a switch. The word after an option is its value, whatever it is."""
    rest = iter(words)
    for word in rest:
        flag, equals, attached = word.partition("=") if word.startswith("--") else (word, "", "")
        option = BY_FLAG.get(flag)
        if option is None:
            raise BadInput(f"{show(word)} is no option of a job; `farm submit --help` lists them")
        if option.kind == "switch":
            if equals:
                raise BadInput(f"{flag} takes no value")
            yield option, None
        else:
            value = attached if equals else next(rest, None)
            if value is None:
                raise BadInput(f"{flag} needs a value")
            yield option, value

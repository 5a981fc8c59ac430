"""Hypothesis strategies for what nobody meant to write: damaged files, strange characters, hostile names."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from hypothesis import strategies as st

#: Escape sequences, characters that end a line to some programs only, invisible and reversing ones.
CONTROLS = st.sampled_from(
    ("\x1b[31m", "\x1b]0;owned\x07", "\x9b2J", "\r", "\n", "\x00", "\x08", "\x0b", "\x0c", "\x1c", "\x7f")
) | st.sampled_from(("\x85", "\u2028", "\u202e", "\u200b", "\ufeff", "\udcff"))
#: What a shell, a path, a Redis key, a CSV file or rich's markup would take for something else.
SYNTAX = st.sampled_from(
    ("../", "/", "~", "$(id)", "`id`", ";id", "|", "&", "'", '"', "\\", "*", "[red]", ":", "{", "--", "-m")
) | st.sampled_from(("=", "@", ",", "#", " ", "%s", "farm:meta"))
#: Numbers that are none, or not the ones they seem.
NUMBERS = st.sampled_from(
    ("", "0", "-1", "1.5", "1e3", "1e999", "nan", "inf", "-inf", "1_000", "0x10", "٣", "²", "9" * 30)
) | st.just("9" * 5000)
TEXTS = st.lists(
    CONTROLS | SYNTAX | NUMBERS | st.text(max_size=6) | st.sampled_from(["a", "bert", "org", "1", ".", "_"]),
    max_size=8,
).map("".join)


Damage = Callable[[str, random.Random, str], str]


def damaged(text: str) -> st.SearchStrategy[str]:
    """The text after up to four damages: cut, lines lost, doubled, moved or torn, numbers exchanged."""
    damage = st.tuples(st.sampled_from(_DAMAGES), st.integers(0, 2**32), NUMBERS | CONTROLS | SYNTAX)

    def apply(damages: list[tuple[Damage, int, str]]) -> str:
        result = text
        for damage, seed, with_ in damages:
            result = damage(result, random.Random(seed), with_)
        return result

    return st.lists(damage, max_size=4).map(apply)


def _cut(text: str, chance: random.Random, _: str) -> str:
    return text[: chance.randint(0, len(text))]


def _insert(text: str, chance: random.Random, with_: str) -> str:
    at = chance.randint(0, len(text))
    return text[:at] + with_ + text[at + chance.randint(0, 2) :]


def _number(text: str, chance: random.Random, with_: str) -> str:
    found = list(re.finditer(r"[0-9]+(?:\.[0-9]+)?", text))
    if not found:
        return text
    match = chance.choice(found)
    return text[: match.start()] + with_ + text[match.end() :]


def _lose(text: str, chance: random.Random, _: str) -> str:
    lines = text.split("\n")
    del lines[chance.randrange(len(lines))]
    return "\n".join(lines)


def _double(text: str, chance: random.Random, _: str) -> str:
    lines = text.split("\n")
    lines.insert(chance.randint(0, len(lines)), chance.choice(lines))
    return "\n".join(lines)


def _move(text: str, chance: random.Random, _: str) -> str:
    lines = text.split("\n")
    lines.insert(chance.randint(0, len(lines) - 1), lines.pop(chance.randrange(len(lines))))
    return "\n".join(lines)


def _tear(text: str, chance: random.Random, _: str) -> str:
    """Two lines written by two threads at once."""
    lines = text.split("\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    one, other = lines[first], lines[second]
    at = chance.randint(0, len(one))
    lines[first] = one[:at] + other + one[at:]
    return "\n".join(lines)


_DAMAGES: tuple[Damage, ...] = (_cut, _insert, _number, _lose, _double, _move, _tear)

"""Text from outside as a terminal may show it: nothing in it moves the cursor, hides or starts a line."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """The text with what is not printable, other than the characters of `keep`, as its escape (`\\x1b`)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """The text on one line: line ends become blanks, whatever else is not printable its escape."""
    return text if text.isprintable() else printable(" ".join(line.strip() for line in text.splitlines()))

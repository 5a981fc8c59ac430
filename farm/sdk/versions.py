"""The SDK's versions, from its version files or its version tool.

Source: Cloud AI SDK docs, Installation (docs/sdk.md, "Other tools").
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

#: The parts of an SDK that have versions of their own.
PARTS = ("apps", "platform")

_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_TOOL_LINE = re.compile(r"^\s*(\w+)\s*:\s*(?:AIC\.)?([0-9]+(?:\.[0-9]+)+)\s*$", re.MULTILINE)


def parse_version_xml(text: str) -> str | None:
    """The version in apps.xml or platform.xml, e.g. "1.12.2.0"; None where it has none.

    base_version and build_id make it; without these, the first text that looks like a version.
    """
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    texts = {element.tag: (element.text or "").strip() for element in reversed(list(tree.iter()))}
    base = texts.get("base_version", "")
    if _VERSION.fullmatch(base):
        build = texts.get("build_id", "")
        return f"{base}.{build}" if re.fullmatch(r"[0-9]+", build) else base
    for element in tree.iter():
        if found := _VERSION.search(element.text or ""):
            return found[0]
    return None


def parse_version_util(text: str) -> dict[str, str]:
    """The parts that qaic-version-util found, e.g. {"apps": "1.6.80"}, from lines like `apps:AIC.1.6.80`."""
    return {name: version for name, version in _TOOL_LINE.findall(text) if name in PARTS}

"""qaic-version-util: the versions in the root's versions/*.xml, as `platform:AIC.1.21.6`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_PACKAGES = ("platform", "apps", "factory")
_PARTS = ("base_name", "base_version", "build_id")


def version(root: Path, package: str) -> str:
    """The version of an installed package, such as AIC.1.21.6, or `not found`."""
    try:
        text = (root / "versions" / f"{package}.xml").read_text()
    except FileNotFoundError:
        return "not found"
    found = [re.search(rf"<{part}>(.*?)</{part}>", text) for part in _PARTS]
    return ".".join(part.group(1) for part in found if part) or "not found"


def main(program: str, argv: list[str], root: Path) -> int:
    """Print the version of each package, or of those named by --platform, --apps, --factory."""
    named = [argument.removeprefix("--") for argument in argv]
    if not set(named) <= set(_PACKAGES):
        print(f"Usage: {program} [--platform] [--apps] [--factory]", file=sys.stderr)
        return 1
    for package in named or _PACKAGES:
        print(f"{package}:{version(root, package)}")
    return 0

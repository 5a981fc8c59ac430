"""qaic-qpc: `validate -i FILE` and `extract --qpc FILE --output-dir DIR [-s PATTERN]` of a program."""

from __future__ import annotations

import argparse
import json
import sys
from fnmatch import fnmatch
from pathlib import Path

from . import qpc


def main(program: str, argv: list[str], root: Path) -> int:
    """Run qaic-qpc; 0, or 1 when the file is not a QPC."""
    parser = argparse.ArgumentParser(prog=program)
    commands = parser.add_subparsers(dest="command", required=True)
    validate = commands.add_parser("validate")
    validate.add_argument("-i", "--input", type=Path, required=True)
    extract = commands.add_parser("extract")
    extract.add_argument("--qpc", type=Path, required=True)
    extract.add_argument("--output-dir", type=Path, required=True)
    extract.add_argument("-s", "--segment", default="*")
    given = parser.parse_args(argv)
    try:
        if given.command == "validate":
            _validate(given.input)
        else:
            _extract(given.qpc, given.output_dir, given.segment)
    except (OSError, qpc.BadQpc) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    return 0


def _validate(path: Path) -> None:
    segments = qpc.read(path)
    if qpc.DESCRIPTION not in segments:
        raise qpc.BadQpc(f"{path}: no segment {qpc.DESCRIPTION}")
    description = json.loads(bytes(segments[qpc.DESCRIPTION]))
    print(f"Network name: {description['name']}")
    print(f"Number of NSP required: {description['cores']}")
    print(f"Batch size: {description['batch_size']}")
    for kind in ("inputs", "outputs"):
        for entry in description[kind]:
            print(f"{kind[:-1].title()}: {entry['name']} {entry['dtype']} {entry['dims']}")


def _extract(path: Path, folder: Path, pattern: str) -> None:
    segments = qpc.read(path)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in segments.items():
        if fnmatch(name, pattern):
            (folder / Path(name).name).write_bytes(data)
            print(f"Extracted {name}")

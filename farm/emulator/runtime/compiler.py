"""qaic-exec and qaic-compile: an ONNX model into a folder with `programqpc.bin`.

The command line is judged before ONNX is imported: `-h` and a wrong flag answer at once. The program computes
what the model does, at the static shapes asked for and with weights rounded to 16 bits (convert.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

from . import flags, misbehave, scenario, settings


def main(program: str, argv: list[str], root: Path) -> int:
    """Run the compiler `program` (qaic-exec or qaic-compile); its exit status."""
    rules = scenario.load(root)
    setup = settings.load(root)
    if flags.asks_help(argv):
        print(flags.usage(program, setup.modern))
        return 0
    try:
        given = flags.parse(argv, setup.modern, rules.option("repeated_flag"))
        lists_operators = flags.lists_operators(given)
        asked = None if lists_operators else flags.Asked(program, given, setup.modern)
    except flags.BadFlag as error:
        print(error, file=sys.stderr)
        return misbehave.FAILURE
    from . import compilation

    if asked is None:
        compilation.list_operators()
        return 0
    return compilation.run(asked, setup, rules)

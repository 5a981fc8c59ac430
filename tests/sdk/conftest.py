"""The SDK's tests use the stage tests' emulated roots and small model."""

from __future__ import annotations

from tests.stages.conftest import make_root, onnx_file

__all__ = ["make_root", "onnx_file"]

"""A distributed benchmarking farm for Qualcomm Cloud AI 100 (AIC100) cards."""

__version__ = "0.1.0"

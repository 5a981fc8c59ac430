"""Rendering of records: tables, CSV, JSON, Markdown, look-up table rows. No I/O but the parquet file."""

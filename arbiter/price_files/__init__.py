"""Recorded prices as files: CSV, Parquet and XLSX out, CSV and Parquet in: docs/price-files.md."""

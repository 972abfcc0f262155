"""Exact KV-cache bytes, from a YAML spec to the terminal."""

__version__ = "0.1.0"

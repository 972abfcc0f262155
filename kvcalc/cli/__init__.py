"""Commands: parse arguments, call one function that returns a frozen Report, hand it to a renderer."""

from kvcalc.cli.app import run

__all__ = ["run"]

"""`python -m kvcalc`."""

from kvcalc.cli import run

run()

"""The installed command, and `python -m kvcalc`."""

import gc


def main() -> None:
    """One answer in a process of its own; see `kvcalc.cli.app.run`."""
    # What is imported lives as long as the process: a collection that walks it frees nothing. The interpreter's last
    # one alone is a sixth of a short answer's time (benchmarks/cold_start.py).
    gc.disable()
    from kvcalc.cli import run

    gc.freeze()
    gc.enable()
    try:
        run()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()

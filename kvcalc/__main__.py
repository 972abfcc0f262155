"""The installed command, and `python -m kvcalc`."""

import gc
import os


def main() -> None:
    """One answer in a process of its own; see `kvcalc.cli.app.run`."""
    try:
        # What is imported lives as long as the process: a collection that walks it frees nothing. The interpreter's
        # last one alone is a sixth of a short answer's time (benchmarks/cold_start.py).
        gc.disable()
        from kvcalc.cli import run

        gc.freeze()
        gc.enable()
        run()
    except KeyboardInterrupt:  # while importing: run() has an answer to it from then on
        os._exit(130)
    except SystemExit as stop:
        if stop.code == 130:
            # All is flushed. An ordinary end would kill the process by the signal, where the interruption came to code
            # that exec() ran, as dataclasses do.
            os._exit(130)
        raise
    finally:
        gc.freeze()
        _deaf()


def _deaf() -> None:
    """The answer is out, or given up: an interruption of the interpreter's own end would show a traceback."""
    from signal import SIG_IGN, SIGINT, signal

    signal(SIGINT, SIG_IGN)


if __name__ == "__main__":
    main()

"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress

from kvcalc.problems import KvcalcError, Problem


def write_whole(path: str, content: bytes) -> None:
    """Write to a temporary file beside `path`, sync, and put it in place; a link keeps pointing where it did.

    Raises:
        KvcalcError: not writable (KV001).
    """
    target = os.path.realpath(path)
    temporary = ""
    try:
        mode = stat.S_IMODE(os.stat(target).st_mode) if os.path.exists(target) else 0o666 & ~_umask()
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".kvcalc-")
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        message = f"{path[:200]} cannot be written: {error.strerror or error}"
        raise KvcalcError(Problem(code="KV001", message=message, path=path)) from None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current

"""Files are written whole or not at all; what a stranger's file names is looked for in its project alone."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from os.path import exists, join, realpath

from kvcalc.problems import KvcalcError, Problem

TEMPORARY = ".kvcalc-"
"""How a file's name begins while it is written; one that is left behind (kill -9) may be deleted."""


ROOTS = (".git", "kvcalc.toml", "pyproject.toml")
"""What marks the top folder of a project."""


def inside_project(folder: str, path: str) -> bool:
    """Whether `path`, links followed, lies below the project of `folder`: the nearest folder above with one of ROOTS.

    Without one it must lie below `folder` itself. Both may be relative to the working directory.
    """
    base = top = realpath(folder)
    while not any(exists(join(top, mark)) for mark in ROOTS):
        if (above := os.path.dirname(top)) == top:
            top = base
            break
        top = above
    try:
        return realpath(path).startswith(join(top, ""))
    except ValueError:  # no file has such a name
        return False


def write_whole(path: str, content: bytes) -> None:
    """Write to a temporary file beside `path`, sync, and put it in place; a link keeps pointing where it did.

    Whatever interrupts this, the file holds all of the old content or all of the new. What is no regular file (a
    device, a pipe) cannot be replaced: it is written to.

    Raises:
        KvcalcError: not writable, the disk is full, or nobody reads from the pipe (KV001).
    """
    try:
        kept = _stat(path)
        if kept is None or stat.S_ISREG(kept.st_mode):
            _replace(realpath(path), content, kept)
        else:
            _write_through(path, content)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file name"
        message = f"{path[:200]} cannot be written: {reason}"
        hint = _HINTS.get(getattr(error, "errno", None) or 0)
        raise KvcalcError(Problem(code="KV001", message=message, path=path, help=hint)) from None


_HINTS = {
    errno.EACCES: "its folder must be writable as well: a temporary file is made beside it",
    errno.ENOENT: "the folder must be there",
    errno.EISDIR: "name a file in it",
    errno.ENXIO: "nobody reads from the pipe",
}


def _stat(path: str) -> os.stat_result | None:
    """What stands there, links followed; None where nothing does yet."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        if not path:
            raise
        return None


def _replace(target: str, content: bytes, kept: os.stat_result | None) -> None:
    """Puts a new file in place of `target`, with the permissions (and, where that is allowed, the owner) of the old."""
    mode = 0o666 if kept is None else stat.S_IMODE(kept.st_mode)
    temporary = join(os.path.dirname(target), f"{TEMPORARY}{os.urandom(8).hex()}")
    with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as out:
        try:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
            if kept is not None:
                _own(temporary, kept, mode)
            os.replace(temporary, target)
        except BaseException:  # an interruption as well
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _own(temporary: str, kept: os.stat_result, mode: int) -> None:
    if hasattr(os, "chown") and (kept.st_uid, kept.st_gid) != (os.geteuid(), os.getegid()):
        with suppress(OSError):
            os.chown(temporary, kept.st_uid, kept.st_gid)
    os.chmod(temporary, mode)  # whatever the umask took away, or chown


def _write_through(path: str, content: bytes) -> None:
    with open(path, "wb", buffering=0, opener=_opened_at_once) as out:
        if hasattr(os, "O_NONBLOCK"):
            os.set_blocking(out.fileno(), True)
        rest = memoryview(content)
        while rest:
            rest = rest[out.write(rest) :]


def _opened_at_once(path: str, flags: int) -> int:
    """Opened for writing without waiting for a reader, and neither made nor cut."""
    return os.open(path, flags & ~(os.O_CREAT | os.O_TRUNC) | getattr(os, "O_NONBLOCK", 0))

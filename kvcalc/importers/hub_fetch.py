"""The process in which huggingface_hub works (see hub.py): ORG/NAME, revision, most bytes of a file and of memory.

Its last line is JSON: `{"path": ...}`, or `{"message": ..., "help": ...}`. Nothing of kvcalc is imported.
"""

from __future__ import annotations

import errno
import json
import sys
from contextlib import suppress

LOCAL = "give a local config.json instead"


def bound(file_bytes: int, memory_bytes: int) -> None:
    """No file and no memory above that, where the system knows such limits."""
    with suppress(ImportError):
        import resource

        for limit, most in ((resource.RLIMIT_FSIZE, file_bytes), (resource.RLIMIT_AS, memory_bytes)):
            hard = resource.getrlimit(limit)[1]
            with suppress(OSError, ValueError):
                resource.setrlimit(limit, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def fetched(hub_id: str, revision: str, file_bytes: int, memory_bytes: int) -> dict[str, str | None]:
    """The answer."""
    too_large = f"config.json of more than {file_bytes:,} bytes: no config is so large"
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
        from huggingface_hub.constants import HF_HUB_OFFLINE
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        return _failed("--hub needs huggingface_hub", "install it: pip install 'kvcalc[hub]'")
    bound(file_bytes, memory_bytes)
    try:
        if not HF_HUB_OFFLINE and not isinstance(try_to_load_from_cache(hub_id, "config.json", revision=revision), str):
            url = hf_hub_url(hub_id, "config.json", revision=revision)
            size = get_hf_file_metadata(url, timeout=20).size
            if size is not None and size > file_bytes:
                return _failed(too_large)
        return {"path": hf_hub_download(hub_id, "config.json", revision=revision, etag_timeout=20)}
    except GatedRepoError:
        return _failed("access is restricted", "accept its terms on the hub, and log in with `hf auth login`")
    except RepositoryNotFoundError:
        return _failed("no such repository (or it is private)", "check the spelling, or log in with `hf auth login`")
    except RevisionNotFoundError:
        return _failed(f"no revision {revision[:40]}", "the commit that a spec's `revision` names")
    except EntryNotFoundError as error:
        hint = "offline variables are honoured: HF_HUB_OFFLINE"
        return _failed(f"no config.json to be had: {_first_line(error)}", hint)
    except HfHubHTTPError as error:
        return _failed(f"the hub answered: {_first_line(error)}", None)
    except MemoryError:
        return _failed(too_large)
    except Exception as error:  # the HTTP client below has exceptions of its own, which differ from version to version
        full = getattr(error, "errno", None) == errno.EFBIG
        return _failed(too_large if full else f"the hub cannot be reached: {_first_line(error)}")


def _failed(message: str, hint: str | None = LOCAL) -> dict[str, str | None]:
    return {"message": message, "help": hint}


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


if __name__ == "__main__":
    answer = fetched(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
    print()  # whatever was printed before, the last line is the answer
    print(json.dumps(answer), end="")

"""One config.json from the Hugging Face hub, only when asked for (`--hub`).

huggingface_hub does the work, and so its cache, tokens, mirrors (HF_ENDPOINT) and offline variables (HF_HUB_OFFLINE)
hold. Nothing but config.json is ever fetched, and nothing of it is executed.
"""

from __future__ import annotations

import re
from pathlib import Path

from kvcalc.problems import KvcalcError, Problem, usage_error

MAX_CONFIG = 2**20
"""Bytes; the largest config known has a tenth of it."""
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


def fetch_config(hub_id: str) -> Path:
    """The local copy of `org/name`'s config.json, from the cache or the hub.

    Raises:
        KvcalcError: no such id, no access, no network, or the extra is not installed (KV805).
    """
    if not _HUB_ID.fullmatch(hub_id):
        raise usage_error(f"{hub_id[:100]!r} is no hub id", help="write it like Qwen/Qwen3-8B")
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
        from huggingface_hub.constants import HF_HUB_OFFLINE
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
    except ImportError:
        raise _problem(hub_id, "--hub needs huggingface_hub", "install it: pip install 'kvcalc[hub]'") from None
    try:
        if not HF_HUB_OFFLINE and not isinstance(try_to_load_from_cache(hub_id, "config.json"), str):
            size = get_hf_file_metadata(hf_hub_url(hub_id, "config.json"), timeout=20).size
            if size is not None and size > MAX_CONFIG:
                raise _problem(hub_id, f"config.json of {size:,} bytes: no config is so large", None)
        return Path(hf_hub_download(hub_id, "config.json", etag_timeout=20))
    except KvcalcError:
        raise
    except GatedRepoError:
        message, hint = "access is restricted", "accept its terms on the hub, and log in with `hf auth login`"
    except RepositoryNotFoundError:
        message, hint = "no such repository (or it is private)", "check the spelling, or log in with `hf auth login`"
    except EntryNotFoundError as error:
        message, hint = (
            f"no config.json to be had: {_first_line(error)}",
            "offline variables are honoured: HF_HUB_OFFLINE",
        )
    except HfHubHTTPError as error:
        message, hint = f"the hub answered: {_first_line(error)}", None
    except (OSError, ValueError) as error:
        message, hint = f"the hub cannot be reached: {_first_line(error)}", "give a local config.json instead"
    except Exception as error:
        # The HTTP client below huggingface_hub has exceptions of its own, which differ from version to version.
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise
        message, hint = f"the hub cannot be reached: {_first_line(error)}", "give a local config.json instead"
    raise _problem(hub_id, message, hint)


def _problem(hub_id: str, message: str, hint: str | None) -> KvcalcError:
    return KvcalcError(Problem(code="KV805", message=f"{hub_id}: {message}", help=hint))


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]

"""`python .ci/contents.py DIST`: the sdist and the wheel there hold what they need and nothing else."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kvcalc import __version__  # noqa: E402

SHIPPED = ("kvcalc", "kernels_ref", "model_specs")
NEEDED = (
    "kvcalc/py.typed", "kernels_ref/py.typed", "kvcalc/cli/names.txt", "kvcalc/importers/class_defaults.json",
    "kvcalc/hardware/hardware.schema.json", "model_specs/model-spec.schema.json",
)  # fmt: skip


def wrong_in_wheel(path: Path) -> list[str]:
    """What is missing, and what should not be there."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        info = f"kvcalc-{__version__}.dist-info"
        metadata = message_from_string(wheel.read(f"{info}/METADATA").decode())
    sources = {
        file.relative_to(ROOT).as_posix()
        for package in SHIPPED
        for pattern in ("*.py", "*.yaml")
        for file in (ROOT / package).rglob(pattern)
    }
    compiled = {f"kvcalc/compiled/layouts/{file.stem}.json" for file in (ROOT / "model_specs").glob("*.yaml")}
    needed = {*NEEDED, *sources, *compiled, f"{info}/licenses/LICENSE", f"{info}/entry_points.txt"}
    allowed = (*(f"{package}/" for package in SHIPPED), f"{info}/")
    found = [f"missing: {name}" for name in sorted(needed - names)]
    found += [f"too much: {name}" for name in sorted(names) if not name.startswith(allowed) or "/results/" in name]
    if metadata["Version"] != __version__ or metadata["License-Expression"] != "Apache-2.0":
        found.append(f"metadata: {metadata['Version']} {metadata['License-Expression']}")
    return found


def wrong_in_sdist(path: Path) -> list[str]:
    """What is not the repository's, and compiled data, which would be older than what is edited beside it."""
    with tarfile.open(path) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
    known = {
        *SHIPPED, "tests", "docs", "benchmarks", "hatch_build.py", "constraints.txt", "zensical.toml", "pyproject.toml",
        "LICENSE", ".gitignore", "PKG-INFO",
    }  # fmt: skip
    return [
        f"too much: {name}"
        for name in names
        if "/compiled/" in name or not (name.partition("/")[0] in known or (name.endswith(".md") and "/" not in name))
    ]


def main() -> None:
    folder = Path(sys.argv[1])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    found = [*wrong_in_wheel(wheel), *wrong_in_sdist(sdist)]
    print("\n".join(found[:40]) or f"{wheel.name} and {sdist.name} hold what they need and nothing else")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()

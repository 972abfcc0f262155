"""A small spec with nothing to find; a test says only what differs."""

from __future__ import annotations

from pathlib import Path

from kvcalc.checks.engine import CheckReport, check
from kvcalc.checks.settings import Settings

HERE = Path(__file__).parent
PLAIN = """\
name: {name}
sources: [{{source: "paper, table 1", kind: paper}}]
max_position_embeddings: {context}
attention:
  full: {{kind: full, num_attention_heads: 8, num_key_value_heads: {kv_heads}, head_dim: 64}}
layers:
  - {{count: {layers}, attention: full}}
expect:
  - {{quantity: kv_bytes_per_token, value: {value}, source: "{layers} x 2 x {kv_heads} x 64 x 2 B"}}
"""


def plain(name: str = "tiny", *, context: int = 4096, kv_heads: int = 2, layers: int = 12, more: str = "") -> str:
    """A sound spec; `more` is added at the end."""
    value = layers * 2 * kv_heads * 64 * 2
    return PLAIN.format(name=name, context=context, kv_heads=kv_heads, layers=layers, value=value) + more


def checked(
    *paths: object, settings: Settings | None = None, select: tuple[str, ...] = (), **options: object
) -> CheckReport:
    """Checked with no settings but those given."""
    return check([str(path) for path in paths], settings=settings or Settings(), select=select, **options)  # type: ignore[arg-type]


def found(report: CheckReport) -> list[tuple[str, str, str]]:
    """(file name, code, line:column) of every finding."""
    return [
        (Path(f.problem.path or "").name, f.problem.code, f"{f.problem.line}:{f.problem.column}")
        for f in report.findings
    ]

"""KV6xx: how a file is written. Most of it can be repaired in place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from kvcalc.checks.repairs import insert_line, reordered, replaced
from kvcalc.checks.rule import Hit, Rule
from kvcalc.checks.subject import ModelFile, TextFile
from kvcalc.plan.planfile import PlanSpec
from kvcalc.problems import KvcalcError, Severity
from kvcalc.spec.model import ModelSpec
from kvcalc.spec.validate import known_keys
from kvcalc.spec.yamlio import Loc
from kvcalc.units import COUNT_SUFFIXES, parse_count

_MODEL_KEYS: Mapping[str, str] = {
    "num_heads": "num_attention_heads", "n_heads": "num_attention_heads",
    "n_head": "num_attention_heads", "attention_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads", "n_kv_heads": "num_key_value_heads", "kv_heads": "num_key_value_heads",
    "n_head_kv": "num_key_value_heads", "d_head": "head_dim", "head_size": "head_dim", "head_width": "head_dim",
    "v_dim": "v_head_dim", "d_model": "hidden_size", "n_embd": "hidden_size", "d_ff": "intermediate_size",
    "ffn_dim": "intermediate_size", "n_experts": "num_experts", "n_routed_experts": "num_experts",
    "num_local_experts": "num_experts", "experts_per_token": "num_experts_per_tok", "top_k": "num_experts_per_tok",
    "window": "sliding_window", "window_size": "sliding_window", "chunk_size": "attention_chunk_size",
    "context_length": "max_position_embeddings", "max_model_len": "max_position_embeddings",
    "n_positions": "max_position_embeddings", "n_ctx": "max_position_embeddings", "n_vocab": "vocab_size",
    "kv_rank": "kv_lora_rank", "q_rank": "q_lora_rank", "rope_dim": "qk_rope_head_dim",
    "nope_dim": "qk_nope_head_dim", "tied_embeddings": "tie_word_embeddings", "huggingface_id": "hub_id",
    "torch_dtype": "dtype", "expected": "expect", "budgets": "budget", "batch": "batch_size", "seq": "seq_len",
}  # fmt: skip
_PLAN_KEYS: Mapping[str, str] = {
    "batch": "batch_size", "concurrency": "batch_size", "max_num_seqs": "batch_size", "max_concurrency": "batch_size",
    "seq": "seq_len", "context": "seq_len", "max_model_len": "seq_len", "context_length": "seq_len",
    "qps": "rate", "request_rate": "rate", "input_len": "isl", "output_len": "osl", "trace": "lengths",
    "max_gpus": "gpus", "num_gpus": "gpus", "gpu_count": "gpus", "count": "gpus", "cache_dtype": "kv_cache_dtype",
    "kv_dtype": "kv_cache_dtype", "quantization": "weight_dtype", "weights_dtype": "weight_dtype",
    "tp": "tensor_parallel_size", "pp": "pipeline_parallel_size", "dp": "data_parallel_size",
    "dcp": "decode_context_parallel_size", "ep": "enable_expert_parallel", "expert_parallel": "enable_expert_parallel",
    "price": "prices", "overhead": "overheads", "set": "settings", "sla": "slo", "expected": "expect",
}  # fmt: skip
WITHIN: Mapping[str, Mapping[str, str]] = {
    "expect": {"dtype": "kv_cache_dtype"},
    "budget": {"dtype": "kv_cache_dtype", "bytes_per_token": "max_bytes_per_token", "bytes_at": "max_bytes_at",
               "gpus": "count", "num_gpus": "count"},
}  # fmt: skip
"""Below these keys of a model spec, words that elsewhere mean something else, or nothing."""
FOREIGN_KEYS: Mapping[str, tuple[Mapping[str, str], type]] = {
    "model": (_MODEL_KEYS, ModelSpec),
    "plan": (_PLAN_KEYS, PlanSpec),
}
"""Kind of file -> other projects' (and older) names -> ours."""

_SUFFIXED = re.compile(r"\d{1,18}(?:\.\d{1,6})?[kKmMgGtT]", re.ASCII)
_GROUPED = re.compile(r"\d{1,3}(?:[_,]\d{3})+", re.ASCII)
_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", re.ASCII)
_SCHEMA_LINE = re.compile(r"\s*#\s*yaml-language-server:\s*\$schema=")
_FREE_TEXT = frozenset({"name", "full_name", "source", "note", "notes", "machine", "command", "what", "revision"})


def foreign_keys(file: TextFile) -> Iterator[Hit]:
    """A key of another project, for which we have our own."""
    if file.kind not in FOREIGN_KEYS:
        return
    everywhere, within = _words(file.kind)
    for loc in file.document.key_marks:
        here = within.get(str(loc[0]), everywhere) if len(loc) > 1 else everywhere
        word, beside = str(loc[-1]), file.document.at(loc[:-1])
        ours = here.get(word)
        if ours is None or _names_of_users(loc) or ours in beside:
            continue
        twins = [key for key in beside if here.get(key) == ours]
        fix = replaced(file.document, loc, ours, key=True, summary=f"rename to {ours}") if len(twins) == 1 else None
        hint = f"write {ours}" if len(twins) == 1 else f"keep one of {', '.join(twins)}, as {ours}"
        yield Hit(loc=loc, key=True, message=f"{word!r} is {ours!r} here", help=hint, fix=fix, stands_for=ours)


@cache
def _words(kind: str) -> tuple[Mapping[str, str], Mapping[str, Mapping[str, str]]]:
    """(what other words mean anywhere in this kind of file, what they mean below a top-level key)."""
    table, spec = FOREIGN_KEYS[kind]
    everywhere = {word: ours for word, ours in table.items() if word not in known_keys(spec)}
    within = {key: {**everywhere, **words} for key, words in WITHIN.items()} if kind == "model" else {}
    return everywhere, within


_USERS_OWN = tuple((key,) for key in ("attention", "ffn", "weight_dtypes", "settings", "overheads", "prices"))


def _names_of_users(loc: Loc) -> bool:
    """Whether the last part of `loc` is a name that the file's writer chose."""
    return loc[:-1] in _USERS_OWN


def written_integers(file: TextFile) -> Iterator[Hit]:
    """`32K` where an integer belongs."""
    if file.kind != "model":
        return  # hardware figures carry units
    for loc, value in _scalars(file.raw):
        if not isinstance(value, str) or not loc or loc[-1] in _FREE_TEXT or _names_of_users(loc):
            continue
        number = _integer(value)
        if number is not None and _wants_integer(loc):
            message = f"{loc[-1]}: {value!r} is text, not an integer"
            hint = f"write {number}" + (" (K = 1,024, k = 1,000)" if value[-1] in COUNT_SUFFIXES else "")
            fix = replaced(file.document, loc, str(number), summary=f"write {number}")
            yield Hit(loc=loc, message=message, help=hint, fix=fix)


def _scalars(part: Any, loc: Loc = ()) -> Iterator[tuple[Loc, Any]]:
    if isinstance(part, dict):
        for key, value in part.items():
            yield from _scalars(value, (*loc, key))
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from _scalars(value, (*loc, index))
    else:
        yield loc, part


def _integer(text: str) -> int | None:
    """`32K`, `25.6k`, `32_768`, `32,768`, `"8"` as an integer; None for anything else."""
    if _GROUPED.fullmatch(text):
        text = re.sub("[_,]", "", text)
    if not text.isdecimal() and not _SUFFIXED.fullmatch(text):
        return None
    try:
        return parse_count(text, minimum=0)
    except KvcalcError:
        return None


def _wants_integer(loc: Loc) -> bool:
    from kvcalc.checks.fields import integer_keys

    key = next((part for part in reversed(loc) if isinstance(part, str)), "")
    return key in integer_keys()


def names(file: TextFile) -> Iterator[Hit]:
    """Lower case, digits, dots, hyphens and underscores."""
    name = file.raw.get("name")
    if not isinstance(name, str) or not name or _NAME.fullmatch(name):
        return
    proper = re.sub(r"[^a-z0-9._]+", "-", name.lower())
    proper = re.sub(r"[._-]*-[._-]*|[._]{2,}", "-", proper).strip("-._")
    fix = replaced(file.document, ("name",), proper, summary=f"rename to {proper}") if proper else None
    hint = f"write {proper}" if proper else "lower case, digits, dots, hyphens and underscores"
    yield Hit(loc=("name",), message=f"name {name[:60]!r} is hard to type on a command line", help=hint, fix=fix)


def key_order(file: TextFile) -> Iterator[Hit]:
    """Top-level keys in the order of the schema."""
    present = [key for key in file.raw if key in file.keys]
    wanted = sorted(present, key=file.keys.index)
    for key, expected in zip(present, wanted, strict=True):
        if key != expected:
            fix = reordered(file.document, file.keys)
            message, hint = f"{key!r} stands before {expected!r}", f"order: {', '.join(wanted)}"
            yield Hit(loc=(key,), key=True, message=message, help=hint, fix=fix)
            return


def schema_line(file: TextFile) -> Iterator[Hit]:
    """The line by which editors complete and check."""
    if not any(_SCHEMA_LINE.match(line) for line in file.document.text.splitlines()[:10]):
        line = f"# yaml-language-server: $schema=./{file.schema}"
        fix = insert_line(file.document, line, summary="add the schema line")
        yield Hit(message="no schema line for editors", help=f"`{line}`, and `kvcalc schema` for the file", fix=fix)


def equal_entries(file: ModelFile) -> Iterator[Hit]:
    """Two names for one geometry."""
    seen: dict[str, Any] = {}
    for name, kind in file.spec.attention.items():
        twin = next((other for other, known in seen.items() if known == kind), None)
        if twin is not None:
            hint = f"name {twin!r} in both places"
            yield Hit(loc=("attention", name), key=True, message=f"{name!r} equals {twin!r}", help=hint)
        seen[name] = kind


def equal_layers(file: ModelFile) -> Iterator[Hit]:
    """Neighbours that one `count` would say."""
    for key in ("layers", "encoder_layers", "mtp_layers"):
        entries = getattr(file.spec, key)
        for index in range(1, len(entries)):
            one, two = entries[index - 1], entries[index]
            if (one.attention, one.ffn, one.pattern) == (two.attention, two.ffn, two.pattern):
                hint = f"one entry with `count: {one.count + two.count}`"
                yield Hit(loc=(key, index), message="the same layer as the entry before", help=hint)


def repeated_ids(file: ModelFile) -> Iterator[Hit]:
    """A hub id that stands twice in one spec."""
    seen = {file.spec.hub_id.lower()} if file.spec.hub_id else set()
    for index, alias in enumerate(file.spec.aliases):
        if alias.lower() in seen:
            yield Hit(loc=("aliases", index), message=f"{alias!r} stands twice", help="remove one")
        seen.add(alias.lower())


def shipped_already(file: ModelFile) -> Iterator[Hit]:
    """A hub id that the catalogue has under another name."""
    spec = file.spec
    places: list[tuple[Loc, str]] = [(("hub_id",), spec.hub_id)] if spec.hub_id else []
    places += [(("aliases", index), alias) for index, alias in enumerate(spec.aliases)]
    for loc, hub_id in places:
        shipped = file.world.hub_ids.get(hub_id.lower())
        if shipped is not None and shipped != spec.name:
            message = f"{hub_id} is shipped as {shipped!r}"
            yield Hit(loc=loc, message=message, help=f"use `{shipped}`, or say in `notes` why this one differs")


TEXT_RULES: tuple[Rule[TextFile], ...] = (
    Rule(
        code="KV601",
        name="foreign-key",
        summary="another project's key for something that has a name here",
        why="Keys follow Hugging Face's config.json (`num_key_value_heads`, `head_dim`, `sliding_window`), so"
        " that a spec can be held beside its config; those of a plan follow the flags of `kvcalc plan`. `--fix`"
        " renames it.",
        fixable=True,
        check=foreign_keys,
    ),
    Rule(
        code="KV602",
        name="integer-as-text",
        summary="an integer with a suffix, separators or quotes",
        why="`32K` is 32,768 to vLLM and 32,000 to others; in a file there is no room for doubt. `--fix` "
        "writes the integer out (K = 1,024, k = 1,000, as on the command line).",
        fixable=True,
        check=written_integers,
    ),
    Rule(
        code="KV603",
        name="name-form",
        summary="a name that is not lower case, digits, dots, hyphens and underscores",
        why="The name is what people type. Catalogue names are the hub repository's name in lower case. "
        "`--fix` rewrites it.",
        severity=Severity.WARNING,
        fixable=True,
        check=names,
    ),
    Rule(
        code="KV604",
        name="key-order",
        summary="top-level keys out of order",
        why="Specs that keep one order can be read side by side and differ only where the models do. `--fix` "
        "moves whole blocks, with the comments above them. Off unless selected.",
        severity=Severity.WARNING,
        default=False,
        fixable=True,
        check=key_order,
    ),
    Rule(
        code="KV605",
        name="schema-line",
        summary="no schema line for editors",
        why="With `# yaml-language-server: $schema=...` an editor completes and checks while you type. Off "
        "unless selected.",
        severity=Severity.WARNING,
        default=False,
        fixable=True,
        check=schema_line,
    ),
)

MODEL_RULES: tuple[Rule[ModelFile], ...] = (
    Rule(
        code="KV606",
        name="equal-entries",
        summary="two attention entries of the same geometry",
        why="They count as two groups in every table. Often one of them was meant to differ.",
        severity=Severity.WARNING,
        check=equal_entries,
    ),
    Rule(
        code="KV607",
        name="equal-layers",
        summary="neighbouring layer entries that are the same",
        why="One entry with a `count` says it, and shows at a glance how many layers there are.",
        severity=Severity.WARNING,
        check=equal_layers,
    ),
    Rule(
        code="KV608",
        name="repeated-hub-id",
        summary="a hub id twice in one spec",
        why="An alias that repeats the hub id was usually meant to be another one.",
        severity=Severity.WARNING,
        check=repeated_ids,
    ),
    Rule(
        code="KV609",
        name="shipped-already",
        summary="a hub id that the catalogue already has under another name",
        why="Two specs of one model drift apart. If yours is right and the catalogue wrong, please say so.",
        severity=Severity.WARNING,
        check=shipped_already,
    ),
)

RUN_RULES: tuple[Rule[Any], ...] = (
    Rule(
        code="KV610",
        name="name-taken",
        summary="two files with the same name, alias or hub id",
        why="A query by name would find either. The finding is on the later file (in the order of their paths).",
    ),
    Rule(
        code="KV611",
        name="idle-suppression",
        summary="a `# kvcalc: ignore=` comment that silences nothing",
        why="What it silenced is gone: remove it before it hides something new.",
        severity=Severity.WARNING,
    ),
    Rule(
        code="KV612",
        name="unknown-code",
        summary="a `# kvcalc: ignore=` comment that names no rule",
        why="A misspelt code silences nothing. `kvcalc explain KV201` explains a rule; docs/rules.md lists all.",
        severity=Severity.WARNING,
    ),
)
"""Found by the engine, which sees all files and all comments."""

"""KV0xx: what stands between bytes and a validated spec. The loader and the schema find these on their way."""

from __future__ import annotations

from typing import Any

from kvcalc.checks.rule import Rule

RULES: tuple[Rule[Any], ...] = (
    Rule(
        code="KV001",
        name="unreadable",
        summary="the file cannot be read: missing, not permitted, not UTF-8, or larger than 1 MiB",
        why="Nothing in the file could be checked. Save it as UTF-8, and split what is larger than any spec is.",
        suppressible=False,
    ),
    Rule(
        code="KV002",
        name="not-yaml",
        summary="not YAML, or empty",
        why="The place is where the parser gave up; the mistake often stands a line above: a missing colon, a"
        " bracket left open, a tab for indentation, the markers of an unfinished merge.",
        suppressible=False,
    ),
    Rule(
        code="KV003",
        name="not-plain-yaml",
        summary="YAML that no spec needs: two documents, aliases, tags, a key twice, nesting or numbers beyond measure",
        why="A spec is one plain mapping. A key that stands twice is read differently by different parsers, "
        "aliases can blow a small file up, and tags can run code in some loaders, so all of them are "
        "refused.",
        suppressible=False,
    ),
    Rule(
        code="KV004",
        name="not-a-spec",
        summary="neither a model spec, a hardware spec nor a plan",
        why="Kinds of file are told apart by their top-level keys: a model spec has `attention` and `layers`,"
        " a hardware spec `memory` and `peak`, a plan `model` and `gpu`. In folders, other YAML files are passed"
        " over; a file that was named is reported, unless `--skip-unknown` is given.",
        suppressible=False,
    ),
    Rule(
        code="KV005",
        name="too-many-findings",
        summary="more findings in one file than are shown",
        why="Only the first 200 findings of a file are kept: a broken file must not drown the others.",
        suppressible=False,
    ),
    Rule(
        code="KV006",
        name="not-checkable",
        summary="a check could not be finished on this file",
        why="The file made a rule fail in a way that is a fault of kvcalc, not of the file. Everything else "
        "was still checked. Please report it with the file.",
        suppressible=False,
    ),
    Rule(
        code="KV010",
        name="unknown-key",
        summary="a key that the schema does not know",
        why="A misspelt key would be ignored by a lenient reader, and the figure it holds with it. Keys "
        "follow Hugging Face's config.json; `kvcalc schema` prints them all.",
    ),
    Rule(
        code="KV011",
        name="missing-key",
        summary="a required key is missing",
        why="Nothing is guessed: without this figure the bytes cannot be counted.",
    ),
    Rule(
        code="KV012",
        name="wrong-type",
        summary="a value of the wrong type",
        why='Types are strict: `"8"` is text, `8.0` is no integer, and `32K` is 32,768 to some and 32,000 to '
        "others, so the integers of a spec are written out. Plan files write quantities as the command line does: "
        "`32K`, `50ms`.",
    ),
    Rule(
        code="KV013",
        name="out-of-bounds",
        summary="a value outside its bounds, or not one of the words allowed",
        why="Dimensions are at least 1 and at most 2^40. A zero usually means that the key should be left out.",
    ),
    Rule(
        code="KV014",
        name="unknown-kind",
        summary="an attention or feed-forward kind that is missing or unknown",
        why="The kind says which streams a layer keeps; `kvcalc list kinds` shows all. Quantisation is no "
        "kind but a format: see `--kv-cache-dtype`.",
    ),
)

ELSEWHERE: tuple[Rule[Any], ...] = (
    Rule(
        code="KV801",
        name="not-importable",
        summary="a config or checkpoint file that cannot be read as a model",
        why="Importers refuse what they do not understand rather than guess: an unknown family, a field that "
        "changes the cache in a way the family's reader does not know, two spellings of one field that "
        "differ.",
        suppressible=False,
    ),
    Rule(
        code="KV802",
        name="unknown-family",
        summary="a config.json of a family that the importer does not know",
        why="What a model_type keeps is never guessed. Write a spec by hand, or go on with `--assume "
        "dense-gqa` where every layer keeps plain K and V of every token.",
        suppressible=False,
    ),
    Rule(
        code="KV803",
        name="unread-key",
        summary="a key of a config.json that may concern the cache and is not understood",
        why="The family's reader does not know this key to be harmless, so the figures could be silently wrong.",
        suppressible=False,
    ),
    Rule(
        code="KV804",
        name="broken-gguf",
        summary="not a GGUF file, or one whose header does not hold together",
        why="Only the header is read, never a tensor. A file that was cut off while it was fetched ends here.",
        suppressible=False,
    ),
    Rule(
        code="KV805",
        name="hub",
        summary="the hub did not give the file",
        why="No such id, no access, no network, or the extra `kvcalc[hub]` is not installed. Nothing is "
        "fetched without `--hub`.",
        suppressible=False,
    ),
    Rule(
        code="KV901",
        name="usage",
        summary="a wrong argument on the command line",
        why="The message says what was expected; `kvcalc COMMAND --help` shows an example.",
        suppressible=False,
    ),
    Rule(
        code="KV902",
        name="unknown-name",
        summary="no model or accelerator of this name",
        why="`kvcalc list models` and `kvcalc list gpus` show what is shipped; a path to a YAML file works everywhere.",
        suppressible=False,
    ),
    Rule(
        code="KV903",
        name="settings",
        summary="a settings file that does not hold",
        why="Settings stand in `kvcalc.toml` or under `[tool.kvcalc]` in pyproject.toml. An unknown key or "
        "code there would silently check less than you think, so it is refused.",
        suppressible=False,
    ),
    Rule(
        code="KV904",
        name="trace",
        summary="a trace of lengths, or another file that a plan names, that cannot be read",
        why="A trace is CSV or JSON lines with prompt and output tokens, or totals; the message names the line. Files "
        "that a plan names lie within its project.",
        suppressible=False,
    ),
    Rule(
        code="KV905",
        name="log",
        summary="a log that cannot be held against a prediction",
        why="`reconcile` looks for the lines in which vLLM, SGLang or llama.cpp print the size of their cache at their "
        "start. Where there are none, or the log names no known model, there is nothing to compare.",
        suppressible=False,
    ),
    Rule(
        code="KV906",
        name="calibration",
        summary="a calibration without measured ceilings",
        why="`--calibration` takes a report of `kvcalc verify -o json`, made without `--quick` where there is a GPU. "
        "Its measured read bandwidth and GEMM rates take the place of the published peaks.",
        suppressible=False,
    ),
)
"""Codes that commands other than `check` print; in the table so that `explain` and the docs know them."""

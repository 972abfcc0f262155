"""Writes the tables of docs/peers.md from the results on file.

In a page, `<!-- peers: NAME -->` and `<!-- /peers -->` stand around each table; NAME is a key of TABLES.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from questions import BY_KEY, MODELS
from tools import TOOLS

Json = dict[str, Any]
PAGES = [Path(__file__).resolve().parents[2] / name for name in ("docs/peers.md", "README.md")]
BLOCK = re.compile(r"<!-- peers: (?P<name>\w+) -->\n.*?<!-- /peers -->", re.DOTALL)
QUIET = 1.5
"""Load average up to which a machine did little else: the part before leaves it at 1."""
WORDS = {"right": "right", "refused": "refused", "failed": "fails", "none": "no figure", "state": "KV right, no state"}


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; columns whose head ends in a unit or `x` are set right."""
    rule = ["---:" if re.search(r"\[.+\]$|ratio$| x$", name) else "---" for name in head]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, rule, *rows])


def figure(seconds: float) -> str:
    """Three significant digits, in milliseconds."""
    return f"{seconds * 1e3:#.3g}".rstrip(".") if seconds < 1 else f"{seconds * 1e3:,.0f}"


def ratio(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:,.0f}"


def tools_in(rows: list[Json]) -> list[str]:
    present = {row["tool"] for row in rows}
    return [tool.name for tool in TOOLS if tool.name in present]


def when(machine: Json, what: str) -> str:
    load = f"load average {machine['load_before']} when it began"
    if machine["load_before"] > QUIET:
        load += ": a loaded machine, wall times are too long and CPU times nearer"
    where = f"{machine['cores']} cores ({machine['processor']}), Python {machine['python']}"
    return f"\n{what} {machine['date']}, {where}, {load}.\n"


def versions(results: Json) -> str:
    lines = []
    for row in results["versions"]:
        size = "" if row["not_installed"] else f"{row['megabytes']:,}" if row["megabytes"] else "< 1"
        state = f"not installable here: `{row['not_installed']}`" if row["not_installed"] else "run"
        lines.append([row["tool"], row["version"], size, state, row["note"]])
    return table(["tool", "version", "brings [MB]", "here", "note"], lines)


def truths(results: Json) -> str:
    rows = [
        [m.key, f"{m.tokens:,}", f"{m.kv_bytes:,}" + (f" + {m.state_bytes:,}" if m.state_bytes else ""), m.arithmetic]
        for m in MODELS
    ]
    return table(["model", "tokens", "right [B]", "arithmetic"], rows)


def cell(row: Json | None) -> str:
    if row is None:
        return "-"
    return WORDS.get(row["verdict"]) or f"**{ratio(row['ratio'])} x**"


def answers(results: Json) -> str:
    rows = results["answers"]["rows"]
    found = {(row["tool"], row["model"]): row for row in rows}
    lines = [[name, *(cell(found.get((name, m.key))) for m in MODELS)] for name in tools_in(rows)]
    machine = results["answers"]["machine"]
    return table(["tool", *(m.key for m in MODELS)], lines) + f"\nAsked on {machine['date']}.\n"


def wrong(results: Json) -> str:
    """Every figure that is not right."""
    rows = [row for row in results["answers"]["rows"] if row["verdict"] in ("wrong", "state")]
    lines = []
    for row in by_tool(rows):
        model = BY_KEY[row["model"]]
        said, right = (
            kv + state for kv, state in ((row["kv_bytes"], row["state_bytes"]), (model.kv_bytes, model.state_bytes))
        )
        lines.append([row["tool"], row["model"], f"{said:,}", f"{right:,}", ratio(row["ratio"]), f"`{row['said']}`"])
    return table(["tool", "model", "says [B]", "right [B]", "ratio", "read from"], lines)


def unanswered(results: Json) -> str:
    """Refusals and failures in the tool's own words; a refusal is no wrong answer."""
    words: dict[tuple[str, str, str], list[str]] = {}
    for row in by_tool(results["answers"]["rows"]):
        if row["verdict"] in ("refused", "failed", "none"):
            said = row["said"] if len(row["said"]) <= 130 else row["said"][:129] + "…"
            words.setdefault((row["tool"], WORDS[row["verdict"]], said), []).append(row["model"])
    lines = [
        [tool, "; ".join(models), verdict, "" if verdict == WORDS["none"] else f"`{said.replace('|', '/')}`"]
        for (tool, verdict, said), models in words.items()
    ]
    return table(["tool", "models", "answer", "its words"], lines)


def by_tool(rows: list[Json]) -> list[Json]:
    order = {name: index for index, name in enumerate(tools_in(rows))}
    return sorted(rows, key=lambda row: order[row["tool"]])


def beside(rows: list[Json], base: str) -> Callable[[Json], list[str]]:
    """Times of a row and how often they hold kvcalc's for the same question."""
    of = {row.get("model"): row for row in rows if row["tool"] == base}

    def cells(row: Json) -> list[str]:
        own = of.get(row.get("model"))
        times = [figure(row["wall"]), figure(row["cpu"])]
        return [*times, *([ratio(row[name] / own[name]) for name in ("wall", "cpu")] if own else ["", ""])]

    return cells


TIMES = ["wall [ms]", "CPU [ms]", "wall / kvcalc x", "CPU / kvcalc x"]


def sizing(results: Json) -> str:
    rows, machine = results["sizing"]["rows"], results["sizing"]["machine"]
    times = beside(rows, "kvcalc")
    names = {"kvcalc": "kvcalc, config.json"}
    lines = [[names.get(row["tool"], row["tool"]), row["model"], *times(row)] for row in rows]
    return table(["tool", "question", *TIMES], lines) + when(machine, f"Medians of {machine['runs']} processes,")


def sweeps(results: Json) -> str:
    rows, machine = results["sweeps"]["rows"], results["sweeps"]["machine"]
    times = beside(rows, "kvcalc")
    lines = [[r["tool"], r["model"], *times(r), r["note"]] for r in rows if "wall" in r]
    made = table(["tool", "model", *TIMES, "through"], lines)
    return made + when(machine, f"Medians of {min(machine['runs'], 7)} processes, start and imports left out,")


def plans(results: Json) -> str:
    rows, machine = results["plans"]["rows"], results["plans"]["machine"]
    times = beside(rows, "kvcalc")
    lines = [[row["tool"], row["said"], *times(row), row["note"]] for row in rows]
    made = table(["tool", "says", *TIMES, "what it looked at"], lines)
    return made + when(machine, f"Medians of {min(machine['runs'], 5)} processes,")


def compared(row: Json, tool: str) -> str:
    """How a tool's answer to a config of the catalogue stands to kvcalc's."""
    ours, theirs = row["kvcalc"], row["others"][tool]
    if "said" in theirs:
        return "no answer"
    if "refused" in ours:
        return "kvcalc has none"
    whole = theirs["kv"] + theirs["state"]
    if whole in (ours["bf16"], ours["index_fp8"]):
        return "same"
    keys = {ours[name] - ours["state"] for name in ("bf16", "index_fp8")}
    return "same but states" if {theirs["kv"], whole} & keys else "differs"


def catalogue(results: Json) -> str:
    """How often each tool agrees with kvcalc to the byte, on configs that a third party chose."""
    rows = results["catalogue"]["rows"]
    kinds = ("same", "same but states", "differs", "no answer", "kvcalc has none")
    lines = []
    for tool in rows[0]["others"]:
        found = [compared(row, tool) for row in rows]
        lines.append([tool, *(str(found.count(kind)) for kind in kinds)])
    refused = sum("refused" in row["kvcalc"] for row in rows)
    head = f"{len(rows)} configs; kvcalc answers {len(rows) - refused}.\n\n"
    return head + table(["tool", *(f"{kind} [configs]" for kind in kinds)], lines)


def closest(results: Json) -> str:
    """The figures of the catalogue on which the two closest tools and kvcalc are not one."""
    two = ("kvfit", "aiconfigurator")
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in results["catalogue"]["rows"]:
        if not {compared(row, tool) for tool in two} & {"differs", "kvcalc has none"}:
            continue
        ours = row["kvcalc"]
        own = (
            "refused"
            if "refused" in ours
            else " or ".join(dict.fromkeys(f"{ours[n]:,}" for n in ("bf16", "index_fp8")))
        )
        said = [row["others"][tool] for tool in two]
        figures = ["refused" if "said" in each else f"{each['kv'] + each['state']:,}" for each in said]
        groups.setdefault((own, *figures), []).append(row["model"].split("/")[1])
    lines = [[", ".join(models), *figures] for figures, models in groups.items()]
    return table(["configs", "kvcalc [B]", *(f"{tool} [B]" for tool in two)], lines)


def summary(results: Json) -> str:
    """For the README: how many of the models' bytes are right, and how long one question and a sweep take."""
    verdicts = results["answers"]["rows"]
    asked = {row["tool"]: row for row in reversed(results["sizing"]["rows"])}
    swept = {row["tool"]: row for row in reversed(results["sweeps"]["rows"]) if "wall" in row}
    lines = []
    for tool in tools_in(verdicts):
        given = [row["verdict"] for row in verdicts if row["tool"] == tool]
        counts = [given.count("right"), sum(given.count(word) for word in ("wrong", "state"))]
        times = [figure(rows[tool]["wall"]) if tool in rows else "" for rows in (asked, swept)]
        lines.append([tool, *map(str, counts), str(len(given) - sum(counts)), *times])
    counted, timed = ("right", "wrong", "no answer"), ("one question", "10,000 lengths")
    return table(["tool", *(f"{name} [models]" for name in counted), *(f"{name} [ms]" for name in timed)], lines)


TABLES: dict[str, Callable[[Json], str]] = {
    "summary": summary,
    "versions": versions,
    "truths": truths,
    "answers": answers,
    "wrong": wrong,
    "unanswered": unanswered,
    "sizing": sizing,
    "sweeps": sweeps,
    "plans": plans,
    "catalogue": catalogue,
    "closest": closest,
}


def refreshed(text: str, results: Json) -> str:
    def block(found: re.Match[str]) -> str:
        return f"<!-- peers: {found['name']} -->\n{TABLES[found['name']](results)}<!-- /peers -->"

    return BLOCK.sub(block, text)


def write(results: Json) -> None:
    for page in PAGES:
        old = page.read_text("utf-8")
        if (new := refreshed(old, results)) != old:
            page.write_text(new, "utf-8")

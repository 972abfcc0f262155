"""One table serves the linter, `explain` and the docs."""

from __future__ import annotations

import re
from pathlib import Path

from command_line import kvcalc, refused

from kvcalc.checks.table import GROUPS, RULES, explain_rule
from kvcalc.render.rules import rules_page

ROOT = Path(__file__).parents[2]


def test_every_code_that_the_code_can_emit_is_in_the_table() -> None:
    emitted = {
        code
        for path in (ROOT / "kvcalc").rglob("*.py")
        for code in re.findall(r"""["'](KV\d{3})["']""", path.read_text(encoding="utf-8"))
    }
    assert emitted <= set(RULES)
    assert set(RULES) <= emitted


def test_codes_names_and_texts_hold() -> None:
    assert list(RULES) == sorted(RULES)
    names = [rule.name for rule in RULES.values()]
    assert len(names) == len(set(names))
    for code, rule in RULES.items():
        assert re.fullmatch(r"KV\d{3}", code)
        assert code[:3] in GROUPS
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)
        assert rule.summary[0].islower() or rule.summary.startswith(("`", "YAML", "MLA"))
        assert not rule.summary.endswith(".")
        assert rule.why.endswith(".")


def test_the_rules_page_is_the_table() -> None:
    assert (ROOT / "docs" / "rules.md").read_text(encoding="utf-8") == rules_page()


def test_explain_prints_the_rule() -> None:
    ran = kvcalc("explain", "kv201")
    assert ran.code == 0
    rule = explain_rule("KV201")
    assert ran.out.startswith(f"KV201 {rule.name}: {rule.summary}\n")
    assert rule.why in ran.out
    assert "# kvcalc: ignore=KV201" in ran.out


def test_explain_of_an_unknown_code_is_refused() -> None:
    refused("explain", "KV777")


def test_explain_of_a_prefix_says_which_rules_there_are() -> None:
    assert "help: one of KV301 no-sources, KV302 memory-only" in refused("explain", "kv3")

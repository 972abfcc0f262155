"""Rules of `kvcalc check`: one of them explained, and the page of the docs that lists all."""

from __future__ import annotations

from itertools import groupby

from kvcalc.checks.table import ELSEWHERE, RULES, RuleExplanation, explain_rule
from kvcalc.files import write_whole
from kvcalc.render.document import Column, Document, Table


def rule_document(rule: RuleExplanation) -> Document:
    """What the rule finds, why it matters, how to silence or repair it."""
    facts = (("severity", _severity(rule)), ("silence", _silence(rule)), ("repair", _repair(rule)))
    columns = tuple(Column(name) for name in ("code", "name", "severity", "summary", "why"))
    row = (rule.code, rule.name, rule.severity, rule.summary, rule.why)
    return Document(
        title=f"{rule.code} {rule.name}: {rule.summary}",
        notes=(rule.why,),
        facts=facts,
        data=Table(columns=columns, rows=(row,)),
    )


def _severity(rule: RuleExplanation) -> str:
    exits = "exit 1"
    if rule.code.startswith(ELSEWHERE):
        exits = "ends the command: exit 2"
    elif rule.severity == "info":
        exits = "a remark, exit 0"
    return f"{rule.severity} ({exits})" + ("" if rule.default else ", off unless selected")


def _silence(rule: RuleExplanation) -> str:
    if rule.suppressible:
        return f"# kvcalc: ignore={rule.code}"
    return "not at all" if rule.code.startswith(ELSEWHERE) else "not by a comment: the file was not read"


def _repair(rule: RuleExplanation) -> str:
    return "kvcalc check --fix" if rule.fixable else "by hand"


def rules_page() -> str:
    """docs/rules.md, whole."""
    blocks = [
        "# Rules of `kvcalc check`",
        "Generated from the table of rules; `kvcalc explain CODE` prints the same. How to select, silence and repair: "
        "[check.md](check.md).",
    ]
    rules = [explain_rule(code) for code in RULES]
    for group, members in groupby(rules, key=lambda rule: rule.group):
        listed = list(members)
        blocks.append(f"## {listed[0].code[:3]}xx: {group}")
        for rule in listed:
            marks = [_severity(rule), *(["repaired by `--fix`"] if rule.fixable else [])]
            blocks.append(
                f"### {rule.code} {rule.name}\n\n{_sentence(rule.summary)} *{'; '.join(marks)}*\n\n{rule.why}"
            )
    return "\n\n".join(blocks) + "\n"


def main() -> None:
    """`python -m kvcalc.render.rules` writes docs/rules.md (into the folder where it is run)."""
    write_whole("docs/rules.md", rules_page().encode())


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


if __name__ == "__main__":
    main()

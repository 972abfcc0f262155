"""The sessions of docs/python-api.md run as they stand there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import kvcalc

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python-api.md"
SESSIONS = re.findall(r"```pycon\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def test_the_page_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    test = doctest.DocTestParser().get_doctest("\n".join(SESSIONS), {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 20
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test, out=said.append)
    assert result.failed == 0, "".join(said)


def test_a_wrong_session_fails() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(test, out=lambda text: None).failed == 1


@pytest.mark.parametrize("name", [name for names in kvcalc._HOMES.values() for name in names if name[0].islower()])
def test_every_function_is_on_the_page_and_explains_itself(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text("utf-8")
    doc = getattr(kvcalc, name).__doc__
    assert doc
    assert "Raises:" in doc


def test_the_package_says_how_it_is_used() -> None:
    parsed = doctest.DocTestParser().get_doctest(kvcalc.__doc__ or "", {}, "kvcalc", None, 0)
    assert doctest.DocTestRunner().run(parsed).failed == 0
    assert len(parsed.examples) == 2

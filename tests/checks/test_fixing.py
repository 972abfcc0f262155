"""--fix: what is safe is repaired, everything else stays as it was written."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest
from checks.spec_text import HERE, checked, found, plain
from command_line import kvcalc
from fuzz.damage import YAML_PIECES, damaged
from fuzz.meaning import same_meaning

from kvcalc.checks.engine import document_findings
from kvcalc.checks.fixing import changes, repaired, write
from kvcalc.checks.kinds import KINDS
from kvcalc.checks.selection import Selection
from kvcalc.checks.settings import Settings
from kvcalc.checks.subject import World
from kvcalc.problems import KvcalcError
from kvcalc.spec.yamlio import load_yaml

MESSY = """\
# A file that people have written into.

layers:            # twelve of them
  - {count: 12, attention: full}
# The name comes late.
name: My Model     # "My Model" in the paper
sources:
  - {source: "paper, table 1", kind: paper}
attention:
  full: {kind: full, num_attention_heads: 8, num_kv_heads: 2, head_dim: "64"}  # d_head in the paper
context_length: '4K'
expect:
  - quantity: kv_bytes_per_token
    value: 6_144   # 12 x 2 x 2 x 64 x 2 B
    source: paper, table 2
"""
CLEAN = """\
# yaml-language-server: $schema=./model-spec.schema.json
# A file that people have written into.

# The name comes late.
name: my-model     # "My Model" in the paper
sources:
  - {source: "paper, table 1", kind: paper}
max_position_embeddings: 4096
attention:
  full: {kind: full, num_attention_heads: 8, num_key_value_heads: 2, head_dim: 64}  # d_head in the paper
layers:            # twelve of them
  - {count: 12, attention: full}
expect:
  - quantity: kv_bytes_per_token
    value: 6144   # 12 x 2 x 2 x 64 x 2 B
    source: paper, table 2
"""


def fixed(text: str, select: tuple[str, ...] = (), name: str = "x.yaml") -> str:
    return repaired(name, text.encode(), Selection(Settings(), select), World()).after


def test_all_repairs_of_a_messy_file_keep_its_comments() -> None:
    assert fixed(MESSY, select=("KV",)) == CLEAN


def test_repairs_end() -> None:
    assert fixed(CLEAN, select=("KV",)) == CLEAN


def test_order_and_schema_line_are_repaired_only_when_selected() -> None:
    assert fixed(plain()) == plain()
    assert fixed(plain(), select=("KV605",)).startswith("# yaml-language-server: ")


@pytest.mark.parametrize(("written", "value"), [("32K", 32768), ("32k", 32000), ("1.5K", 1536), ('"8192"', 8192)])
def test_integers_are_read_as_the_command_line_reads_them(written: str, value: int) -> None:
    assert f"max_position_embeddings: {value}\n" in fixed(plain(context=written))  # type: ignore[arg-type]


@pytest.mark.parametrize("written", ["4.3K", "big", "-4K", "4 K", "1e3", "9" * 30 + "K"])
def test_what_is_no_integer_is_left_alone(written: str) -> None:
    text = plain(context=written)  # type: ignore[arg-type]
    assert fixed(text) == text


def test_a_repair_of_order_changes_no_figure() -> None:
    assert load_yaml("a", fixed(CLEAN[::1], select=("KV604",)).encode()).data == load_yaml("b", CLEAN.encode()).data
    flow = "{layers: [{count: 12, attention: full}], name: a, attention: {full: {kind: full}}}\n"
    assert fixed(flow, select=("KV604",)) == flow  # not blocks of whole lines


def test_two_words_for_one_key_are_left_to_the_writer_and_the_rest_is_repaired() -> None:
    text = plain(more="n_ctx: 4096\ncontext_length: 8192\n").replace("max_position_embeddings: 4096\n", "")
    text = text.replace("head_dim", "d_head")
    assert fixed(text) == text.replace("d_head", "head_dim")
    hints = {f.problem.help for f in document_findings(load_yaml("x", text.encode()), KINDS[0], Selection(Settings()),
                                                       World()) if f.problem.code == "KV601"}  # fmt: skip
    assert hints == {"write head_dim", "keep one of n_ctx, context_length, as max_position_embeddings"}


@pytest.mark.parametrize(
    ("written", "after"),
    [
        ("4K", "4096"), ("'4K'", "4096"), ('"4K"', "4096"), ("4,096", "4096"), ("4K  # 4k?", "4096  # 4k?"),
        (">-\n  4K", ">-\n  4K"), ('"\\x34K"', '"\\x34K"'), ("'4\n  K'", "'4\n  K'"),
    ],
)  # fmt: skip
def test_an_integer_is_repaired_where_it_stands_on_one_line_as_it_reads(written: str, after: str) -> None:
    assert fixed(plain().replace("4096", written)) == plain().replace("4096", after)


def test_a_silenced_finding_is_not_repaired() -> None:
    text = plain("My-Model").replace("My-Model", "My-Model  # kvcalc: ignore=KV603")
    assert fixed(text) == text


def test_line_ends_byte_order_mark_permissions_and_links_are_kept(tmp_path: Path) -> None:
    path, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + plain("My-Model").replace("\n", "\r\n").encode())
    path.chmod(0o640)
    link.symlink_to(path)
    for change in changes([str(link)]):
        write(change)
    assert path.read_bytes() == b"\xef\xbb\xbf" + plain("my-model").replace("\n", "\r\n").encode()
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) in (["real.yaml", "link.yaml"], ["link.yaml", "real.yaml"])


def test_fix_then_check_and_diff_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "messy.yaml"
    path.write_text(MESSY)
    shown = kvcalc("check", str(path), "--diff", "--select", "ALL", "--isolated")
    assert shown.code == 1
    assert "-name: My Model" in shown.out
    assert "+name: my-model" in shown.out
    assert path.read_text() == MESSY
    ran = kvcalc("check", str(path), "--fix", "--select", "ALL", "--isolated")
    assert (ran.code, path.read_text()) == (0, CLEAN), ran
    assert found(checked(path, select=("KV",))) == []


def test_a_file_that_cannot_be_read_is_left_to_the_check(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(b"name: [\xff")
    ran = kvcalc("check", str(path), "--fix", "--isolated")
    assert (ran.code, path.read_bytes()) == (1, b"name: [\xff")
    assert "KV001" in ran.out


def test_a_file_that_cannot_be_written_hides_no_other(unprivileged: Path) -> None:
    closed = unprivileged / "closed"
    closed.mkdir()
    for path in (closed / "a.yaml", unprivileged / "z.yaml"):
        path.write_text(plain(path.stem).replace("4096", "4K"))
    closed.chmod(0o500)
    ran = kvcalc("check", str(unprivileged), "--fix", "--isolated", "-o", "concise")
    closed.chmod(0o700)
    assert ran.code == 1
    assert "a.yaml cannot be written" in ran.err
    assert "z.yaml: 1 repaired" in ran.err
    assert "a.yaml:3:26: KV602" in ran.out
    assert (unprivileged / "z.yaml").read_text() == plain("z")


SPELT = (b"n_heads", b"window: 4K", b"n_ctx: '8'", b"1.5k", b"'32,768'", b"6_144", b"dtype: fp8", b"  # seen\n", b"M y")


def remarks(text: str) -> list[str]:
    """Comments in the order in which they stand; as a scanner of our own sees them."""
    return re.findall(r"(?:^|(?<=\s))#[^\n]*", text)


def test_repairs_of_damaged_files_say_the_same_and_keep_every_comment() -> None:
    chance, world, made = random.Random(8), World(), 0
    seeds = [MESSY.encode(), *(path.read_bytes() for path in sorted((HERE / "bad").glob("kv60*.yaml")))]
    in_place, every = (Selection(Settings(), codes) for codes in (("KV601", "KV602", "KV603"), ("KV",)))
    for _ in range(500):
        content = damaged(chance, chance.choice(seeds), (*YAML_PIECES, *SPELT * 3))
        try:
            before = load_yaml("x.yaml", content)
        except KvcalcError:
            continue
        change = repaired("x.yaml", content, in_place, world)
        same_meaning(before.data, load_yaml("x.yaml", change.after.encode()).data)
        assert remarks(change.after) == remarks(change.before)
        final = repaired("x.yaml", content, every, world).after.encode()
        assert repaired("x.yaml", final, every, world).after.encode() == final
        made += change.fixes > 0
    assert made > 60

"""What would take fewer GPUs: each is asked again as a plan of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
from planning import MIB, dense_model, gpu, request

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.plan import alternatives as module
from kvcalc.plan.alternatives import MORE, OTHERS
from kvcalc.plan.demand import Demand, Target
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.planning import plan
from kvcalc.plan.report import Alternative
from kvcalc.plan.request import Request
from kvcalc.plan.search import Minimum
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.hardware_catalog import find_hardware, list_hardware
from kvcalc.weights.ledger import weight_scheme


def changed(wanted: Request, near: Alternative) -> Request:
    """The request that an alternative stands for."""
    demand = wanted.demand
    half = Lengths.of(demand.lengths.longest // 2)
    return {
        "without the speed asked for": replace(wanted, target=Target()),
        "more of them": wanted,
        "fp8 cache": replace(wanted, formats=parse_kv_cache_dtype("fp8")),
        "fp8 weights": replace(wanted, scheme=weight_scheme(wanted.spec, "fp8")),
        f"half the length ({half.longest:,} tokens)": replace(wanted, demand=replace(demand, lengths=half)),
        "another GPU": wanted,
    }[near.change]


def alternatives(wanted: Request, hardware: HardwareSpec) -> tuple[Alternative, ...]:
    """Those of the plan, each proven to fit on its number of GPUs and on no fewer."""
    (found,) = plan(wanted, [hardware]).plans
    for near in found.alternatives:
        again = replace(changed(wanted, near), alternatives=False)
        on = hardware if near.gpu == hardware.name else find_hardware(near.gpu)
        one = again.search(again.job(), on)
        best = one.fewest(near.gpus)
        assert best.gpus == near.gpus
        assert near.label in {choice.label for choice in best.choices}
        fastest = min(best.choices, key=lambda choice: (choice.speed.tpot_s, choice.layout.simplicity))
        assert near.label == fastest.label
        if found.gpus is not None:
            assert near.gpus < found.gpus
    return found.alternatives


def asked(**more) -> Request:
    return request(dense_model(), alternatives=True, **{"batch": 20, "tokens": 2000, **more})


def test_one_gpu_has_no_alternatives_and_is_as_fast_as_asked():
    assert alternatives(asked(batch=1), gpu()) == ()


def test_fewer_gpus_with_less_to_hold_or_more_to_hold_it():
    """Weights 61.5 MiB, cache 20 x 11.7 = 234 MiB: three GPUs of 110 MiB (and of any larger kind one)."""
    found = alternatives(asked(), gpu(110 * MIB))
    kinds = [near.change for near in found]
    assert kinds == ["fp8 cache", "half the length (1,000 tokens)", *["another GPU"] * OTHERS]
    others = [near for near in found if near.change == "another GPU"]
    assert [near.gpus for near in others] == [1] * OTHERS
    larger = sorted(
        spec.name
        for spec in list_hardware()
        if spec.vendor == "nvidia" and not spec.announced and spec.memory.plan_bytes > 110 * MIB
    )
    assert [near.gpu for near in others] == larger[:OTHERS]


def test_lighter_weights_where_they_weigh():
    found = alternatives(asked(batch=1, tokens=10), gpu(40 * MIB))
    assert "fp8 weights" in {near.change for near in found}


@pytest.mark.parametrize(
    ("more", "never"),
    [
        ({"formats": parse_kv_cache_dtype("fp8")}, "fp8 cache"),
        ({"weights": "fp8"}, "fp8 weights"),
        (
            {"demand": Demand(lengths=Lengths.of(2000), batch_size=20, isl=1500, osl=500)},
            "half the length (1,000 tokens)",
        ),
    ],
)
def test_what_is_so_already_is_no_alternative(more, never):
    assert never not in {near.change for near in alternatives(asked(**more), gpu(70 * MIB))}


def test_a_speed_that_costs_gpus_can_be_left_out():
    free = request(dense_model(), tokens=2000, batch=20)
    one = free.search(free.job(), gpu())
    alone = one.choice(one.fitting(1)[0][0]).speed.tpot_s
    found = alternatives(asked(target=Target(tpot_s=alone * 0.7)), gpu())
    assert (found[0].change, found[0].gpus) == ("without the speed asked for", 1)


def test_where_nothing_fits_more_of_them_may():
    """At most two GPUs of 40 MiB: four hold it, and the answer says so; so do larger kinds within four nodes."""
    found = alternatives(asked(batch=1, tokens=2000, max_gpus=1), gpu(50 * MIB))
    assert found[0] == Alternative(change="more of them", gpu="h100-sxm", gpus=2, label=found[0].label)
    assert "another GPU" in {near.change for near in found}
    plenty = alternatives(asked(batch=1, max_gpus=MORE * 8), gpu(5 * MIB))
    assert "more of them" not in {near.change for near in plenty}


def test_what_cannot_be_asked_is_left_out():
    """llama.cpp has no fp8 cache: no answer, and no error."""
    wanted = asked(engine="llama.cpp")
    assert "fp8 cache" not in {near.change for near in alternatives(wanted, gpu(110 * MIB))}


def test_a_gpu_of_unknown_bandwidth_is_left_out(monkeypatch):
    larger = replace(gpu(10**9), name="larger")
    mute = replace(larger, name="mute", memory=replace(larger.memory, bandwidth=None, bytes_per_clock=None))
    monkeypatch.setattr(module, "list_hardware", lambda: [mute, larger])
    (found,) = plan(asked(), [gpu(110 * MIB)]).plans
    assert [near.gpu for near in found.alternatives if near.change == "another GPU"] == ["larger"]


def test_alternatives_are_looked_for_only_where_asked():
    (found,) = plan(replace(asked(), alternatives=False), [gpu(110 * MIB)]).plans
    assert found.alternatives == ()


# --- what is asked, of a search that finds whatever it is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Obliging(Request):
    """Every search of it takes as many GPUs as it may, or those that are written down for the kind."""

    takes: Mapping[str, int] = field(default_factory=dict)

    def search(self, job: Any, hardware: HardwareSpec) -> Any:
        def fewest(most: int) -> Minimum:
            choice: Any = SimpleNamespace(
                gpus=self.takes.get(hardware.name, most), label="TP1", speed=SimpleNamespace(tpot_s=1.0),
                layout=SimpleNamespace(simplicity=0),
            )  # fmt: skip
            return Minimum(choices=(choice,), shortages=(), nearest=None)

        return SimpleNamespace(fewest=fewest)


def sought(
    wanted: Request, fewest: int | None = None, node: int = 2, takes: Mapping[str, int] | None = None
) -> list[tuple[str, str, int]]:
    """(change, GPU, most GPUs it may take) of what is asked where `fewest` of 100 B are the answer so far."""
    obliging = Obliging(**{f.name: getattr(wanted, f.name) for f in fields(wanted)}, takes=takes or {})
    search: Any = SimpleNamespace(hardware=gpu(100), node=node, job=None)
    found: Any = SimpleNamespace(gpus=fewest)
    return [(near.change, near.gpu, near.gpus) for near in module.alternatives(obliging, search, found)]


@pytest.mark.parametrize(
    ("fewest", "max_gpus", "most", "more"),
    [
        (None, 1024, 8, None),  # four nodes of two
        (None, 32, 8, None),
        (None, 31, 8, 32),
        (None, 5, 5, 32),
        (3, 31, 2, None),
        (2, 31, 1, None),
    ],
)
def test_within_how_many_gpus_each_change_is_sought(monkeypatch, fewest, max_gpus, most, more):
    monkeypatch.setattr(module, "list_hardware", lambda: [replace(gpu(101), name="larger")])
    changes = ["fp8 cache", "fp8 weights", "half the length (1,000 tokens)"]
    assert sought(asked(max_gpus=max_gpus, target=Target(tpot_s=1.0)), fewest) == [
        ("without the speed asked for", "h100-sxm", most),
        *([("more of them", "h100-sxm", more)] if more else []),
        *((change, "h100-sxm", most) for change in changes),
        ("another GPU", "larger", most),
    ]


def test_below_one_gpu_nothing_is_sought():
    assert sought(asked(), fewest=1) == []


@pytest.mark.parametrize(("bits", "sought_for"), [(4, False), (8, False), (9, True), (16, True)])
def test_fp8_weights_are_for_what_is_wider(bits, sought_for):
    wide = asked()
    scheme = replace(wide.scheme, default=replace(wide.scheme.default, name="other", element_bits=bits))
    assert ("fp8 weights" in {change for change, *_ in sought(replace(wide, scheme=scheme))}) == sought_for


@pytest.mark.parametrize(("tokens", "half"), [(1, []), (2, ["1 tokens"]), (3, ["1 tokens"]), (2001, ["1,000 tokens"])])
def test_half_a_length_is_whole_tokens(tokens, half):
    changes = [change for change, *_ in sought(asked(tokens=tokens))]
    assert [change for change in changes if change.startswith("half")] == [f"half the length ({each})" for each in half]


def test_other_gpus_are_larger_ones_of_the_vendor_that_can_be_had(monkeypatch):
    large = replace(gpu(200), name="large")
    monkeypatch.setattr(
        module, "list_hardware",
        lambda: [replace(gpu(99), name="smaller"), replace(gpu(100), name="as large"),
                 replace(large, name="announced", announced=True), replace(large, name="foreign", vendor="another"),
                 replace(gpu(101), name="larger"), large],
    )  # fmt: skip
    others = [name for change, name, _ in sought(asked()) if change == "another GPU"]
    assert others == ["large", "larger"]


def test_the_three_other_gpus_that_take_fewest(monkeypatch):
    monkeypatch.setattr(module, "list_hardware", lambda: [replace(gpu(200), name=name) for name in "edcba"])
    found = sought(asked(), takes={"a": 2, "b": 1, "c": 3, "d": 1, "e": 2})
    assert found[-4:] == [
        ("half the length (1,000 tokens)", "h100-sxm", 8),
        ("another GPU", "b", 1),
        ("another GPU", "d", 1),
        ("another GPU", "a", 2),
    ]

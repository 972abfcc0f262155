"""The shipped accelerators: each file holds, each figure has its source, and known figures come out."""

from __future__ import annotations

from collections import Counter

import jsonschema
import pytest

from kvcalc.spec.figures import ByteRate, ByteSize, Measurement, figures
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.hardware_catalog import (
    find_hardware,
    hardware_aliases,
    hardware_folder,
    list_hardware,
    load_hardware,
    shipped_accelerator,
    shipped_hardware,
)
from kvcalc.spec.schema import hardware_schema, schema_text
from kvcalc.spec.yamlio import load_yaml

NAMES = sorted(shipped_hardware())
EVERY = pytest.mark.parametrize("name", NAMES)


def test_catalogue_covers_what_is_promised() -> None:
    assert len(NAMES) >= 45
    assert Counter(spec.vendor for spec in list_hardware()).keys() >= {
        "nvidia", "amd", "intel", "google", "aws", "huawei", "apple",
    }  # fmt: skip


@EVERY
def test_every_file_holds_and_the_trusted_path_reads_the_same(name: str) -> None:
    path = shipped_hardware()[name]
    spec, _ = load_hardware(str(path), path.read_bytes())
    assert spec == shipped_accelerator(name)
    assert spec.name == name == name.lower()


def test_names_and_aliases_mean_one_accelerator_each() -> None:
    words = [word for spec in list_hardware() for word in (spec.name, *spec.aliases)]
    assert [word for word, count in Counter(words).items() if count > 1] == []
    assert all(word == word.lower() and "_" not in word and " " not in word for word in words)


def test_aliases_found_without_parsing_are_the_parsed_ones() -> None:
    parsed = {alias: spec.name for spec in list_hardware() for alias in spec.aliases}
    assert hardware_aliases() == parsed


def test_committed_schema_is_the_generated_one() -> None:
    schema = hardware_folder() / "hardware.schema.json"
    assert schema.read_text(encoding="utf-8") == schema_text(hardware_schema())
    for path in shipped_hardware().values():
        assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=hardware.schema.json\n")


@EVERY
def test_every_file_is_valid_under_the_published_schema(name: str) -> None:
    """By another implementation than the one that reads the files."""
    path = shipped_hardware()[name]
    jsonschema.Draft7Validator(hardware_schema()).validate(load_yaml(str(path), path.read_bytes()).data)


@EVERY
def test_every_figure_says_where_it_is_from(name: str) -> None:
    """By the raw text: a value never stands alone."""
    path = shipped_hardware()[name]
    raw = load_yaml(str(path), path.read_bytes()).data

    def check(part: object, place: str) -> int:
        if isinstance(part, list):
            return sum(check(item, place) for item in part)
        if not isinstance(part, dict):
            return 0
        if "value" in part:
            assert part["source"].strip(), place
            assert "kind" in part or {"machine", "command", "date"} <= part.keys(), place
            return 1
        return sum(check(value, f"{place}.{key}") for key, value in part.items())

    assert check(raw, name) == len(list(figures(shipped_accelerator(name))))


@EVERY
def test_what_plans_need_is_there(name: str) -> None:
    spec = shipped_accelerator(name)
    assert spec.memory.plan_bytes > 2**33
    assert spec.memory.rate is not None
    assert spec.peak_ops_per_s("bf16") or spec.peak_ops_per_s("fp16")


@EVERY
def test_memory_grows_less_from_label_to_driver_to_program(name: str) -> None:
    """Printed GB are GiB on most parts, so 2^30 per printed unit is the ceiling; each step takes something away."""
    memory = shipped_accelerator(name).memory
    number, unit = memory.vendor.value.split()
    assert unit in ("GB", "GiB")
    ceiling = int(number) * 2**30
    steps = [ceiling, *(part.exact for part in (memory.driver, memory.application) if part)]
    assert steps == sorted(steps, reverse=True)
    if memory.driver:
        assert memory.driver.exact > 0.92 * ceiling  # the driver never hides more: B300, 275040 of 294912 MiB


def test_bus_and_clock_agree_with_the_printed_bandwidth() -> None:
    """Within 2 %: H100 PCIe is printed as 2 TB/s and clocked for 2.039."""
    known = {spec.name: spec.memory for spec in list_hardware() if spec.memory.theoretical_bytes_per_s}
    assert len(known) >= 20
    for name, memory in known.items():
        assert memory.bandwidth is not None
        assert memory.theoretical_bytes_per_s == pytest.approx(memory.bandwidth.exact, rel=0.02), name


@EVERY
def test_tiers_nearer_to_the_arithmetic_stream_faster(name: str) -> None:
    """On the device: the channels of a two-socket host together outrun the memory of an L4."""
    tiers = shipped_accelerator(name).tiers()
    rates = [rate.bytes_per_s for level, tier in tiers.items() if level != "host_dram" and (rate := tier.rate)]
    assert rates == sorted(rates, reverse=True)


@EVERY
def test_smaller_inputs_are_never_slower(name: str) -> None:
    peak = shipped_accelerator(name).peak
    for wide, narrow in (("fp32", "bf16"), ("bf16", "fp8"), ("fp8", "fp4")):
        if wide in peak and narrow in peak:
            assert peak[narrow].exact >= peak[wide].exact  # type: ignore[index]


def test_no_measurement_exceeds_what_bounds_it() -> None:
    """A bound above a measurement is what the word promises; one below would be a wrong figure."""
    seen = 0
    for spec in list_hardware():
        for tier in spec.tiers().values():
            for measurement in tier.measured:
                if rate := tier.rate:
                    assert measurement.exact <= rate.bytes_per_s
                    seen += 1
        for measurement in spec.host_link.measured if spec.host_link else ():
            assert measurement.exact <= spec.host_link.per_direction.exact  # type: ignore[union-attr]
            seen += 1
    assert seen >= 3


def test_theory_and_measurement_are_kinds_of_no_published_figure() -> None:
    for spec in list_hardware():
        for place, figure in figures(spec):
            if isinstance(figure, Measurement):
                assert place[-2] == "measured"
            else:
                assert figure.kind not in ("theory", "measured")


# Figures from outside: (accelerator, what, bytes, B/s or FLOP/s, where it is printed)
GOLDEN = [
    ("h100-sxm", "driver", 81559 * 2**20, "nvidia-smi of an H100 80GB HBM3"),
    ("h200", "driver", 143771 * 2**20, "nvidia-smi of an H200"),
    ("a100-80gb", "driver", 81920 * 2**20, "nvidia-smi of an A100-SXM4-80GB"),
    ("a100-40gb", "driver", 40960 * 2**20, "nvidia-smi of an A100-SXM4-40GB"),
    ("b200", "driver", 183359 * 2**20, "nvidia-smi of a B200"),
    ("mi355x", "driver", 294896 * 2**20, "amd-smi of an MI355X"),
    ("mi300x", "driver", 206141652992, "rocm-smi --showmeminfo vram of an MI300X"),
    ("h200", "bandwidth", 4_800_000_000_000, "NVIDIA H200 product page: 4.8 TB/s"),
    ("a100-40gb", "bandwidth", 1_555_000_000_000, "NVIDIA A100 white paper: 1555 GB/s"),
    ("gb200", "bandwidth", 8_000_000_000_000, "NVIDIA GB200 NVL72 page: 8 TB/s per GPU, not 13.4"),
    ("h20", "bandwidth", 4_000_000_000_000, "Step-3 report, Table 4"),
    ("a10", "vendor", 24_000_000_000, "24 GB, not 28"),
    ("trainium2", "vendor", 96 * 2**30, "AWS Neuron documentation: 96 GiB"),
    ("mi210", "bandwidth", 1_638_400_000_000, "4096 bit at 3.2 Gbit/s per pin; AMD's data sheet prints 1.6 TB/s"),
    ("rtx-6000-ada", "bandwidth", 960_000_000_000, "NVIDIA Ada professional white paper, page 28"),
    ("m3-ultra", "bandwidth", 819_000_000_000, "FluidX3D's table of devices"),
    ("m2-ultra", "application", 147_456 * 2**20, "FluidX3D's table of devices: 147,456 MB of 192 GB"),
]


@pytest.mark.parametrize(("name", "field", "value", "source"), GOLDEN)
def test_golden_memory_figures(name: str, field: str, value: int, source: str) -> None:
    figure = getattr(shipped_accelerator(name).memory, field)
    assert isinstance(figure, ByteSize | ByteRate)
    assert figure.exact == value, source


@pytest.mark.parametrize(
    ("name", "dtype", "value"),
    [
        ("h100-sxm", "bf16", 989e12),  # NVIDIA H100 product page: 1979 with sparsity
        ("h20", "fp8", 296e12),  # Step-3 report, Table 4
        ("mi300x", "fp8", 2614.9e12),  # ROCm documentation, MI300X peak table
        ("tpu-v6e", "int8", 1836e12),  # Google Cloud TPU v6e page
        ("trainium3", "fp4", 2517e12),  # AWS Neuron documentation, Trainium3
        ("h200-nvl", "bf16", 835e12),  # NVIDIA H200 data sheet: 1671 with sparsity
        ("l4", "fp16", 121e12),  # NVIDIA L4 data sheet: 242 with sparsity
        ("l40", "fp16", 181e12),  # NVIDIA Ada white paper, page 36
        ("t4", "int8", 130e12),  # NVIDIA T4 data sheet
        ("a10g", "int8", 140e12),  # AWS A10G data sheet
        ("rtx-5090", "fp4", 3352e12 / 2),  # NVIDIA RTX 5090 page: 3352 AI TOPS, which have sparsity
        ("mi210", "fp16", 181e12),  # AMD MI210 data sheet
    ],
)
def test_golden_peaks(name: str, dtype: str, value: float) -> None:
    assert shipped_accelerator(name).peak_ops_per_s(dtype) == int(value)


def test_peaks_follow_from_units_and_clock() -> None:
    """Matrix cores x FMA per clock x 2 x clock, as stas00/ml-engineering works it out from the vendors' pages."""

    def bf16(name: str) -> object:
        return pytest.approx(shipped_accelerator(name).peak_ops_per_s("bf16"), rel=1e-3)

    assert bf16("h100-sxm") == 528 * 512 * 2 * 1_830_000_000
    assert bf16("a100-80gb") == 432 * 256 * 2 * 1_410_000_000
    assert bf16("mi250x") == 880 * 128 * 2 * 1_700_000_000
    assert bf16("mi300x") == 1216 * 256 * 2 * 2_100_000_000
    # printed with two digits: 2.5 PFLOP/s
    exact = 1024 * 512 * 2 * 2_400_000_000
    assert shipped_accelerator("mi355x").peak_ops_per_s("bf16") == round(exact, -14)


@pytest.mark.parametrize(
    ("name", "cores", "tera_flops"),
    # FluidX3D's README @8986874: what OpenCL reports of each, as cores x 2 x clock
    # (not its RTX 5090, a card at 2.41 GHz: the file has another card's 2.407 GHz)
    [
        ("a10", 128, 31.24),
        ("a30", 64, 10.32),
        ("a100-80gb", 64, 19.49),
        ("h100-sxm", 128, 66.91),
        ("h100-nvl", 128, 60.32),
        ("h200-nvl", 128, 60.32),
        ("l40", 128, 90.52),
        ("l40s", 128, 91.61),
        ("rtx-4090", 128, 82.58),
        ("rtx-6000-ada", 128, 91.10),
        ("b300", 128, 76.99),
    ],
)
def test_fp32_and_sram_clock_are_those_that_opencl_reports(name: str, cores: int, tera_flops: float) -> None:
    spec = shipped_accelerator(name)
    assert spec.sram is not None
    assert spec.sram.units is not None
    assert spec.sram.clock is not None
    assert spec.sram.units.exact * cores * 2 * spec.sram.clock.exact == pytest.approx(tera_flops * 1e12, rel=1e-3)
    if name != "b300":  # NVIDIA prints 75 (600 for 8), 2.6 % under what the clock gives
        assert spec.peak_ops_per_s("fp32") == pytest.approx(tera_flops * 1e12, rel=6e-3)


@pytest.mark.parametrize(
    ("name", "giga_flops"),
    # philipturner/metal-benchmarks @dc2adc6: the same in fp32 and fp16; the M2 Ultra is two M2 Max
    [("m1-max", 10_617), ("m1-ultra", 21_233), ("m2-max", 13_600), ("m2-ultra", 2 * 13_600)],
)
def test_apple_peaks_are_cores_times_clock_in_both_widths(name: str, giga_flops: int) -> None:
    spec = shipped_accelerator(name)
    assert spec.peak_ops_per_s("fp32") == spec.peak_ops_per_s("fp16") == pytest.approx(giga_flops * 1e9, rel=2e-3)


@pytest.mark.parametrize("name", ["gh200-96gb", "gh200-144gb", "gb200", "gb300"])
def test_grace_with_480_gb_streams_what_its_benchmarking_guide_asks(name: str) -> None:
    """STREAM must reach 307,000 MB/s, 80 % of the peak; NVL72 pages print 14 TB/s for 36 of them."""
    dram = shipped_accelerator(name).host_dram
    assert dram is not None
    assert dram.rate is not None
    assert 0.8 * dram.rate.bytes_per_s == pytest.approx(307e9, rel=1e-2)
    assert round(36 * dram.rate.bytes_per_s / 1e12) == 14


@pytest.mark.parametrize(
    ("name", "dtype", "ridge"),
    # Step-3 report, Table 4: fp8 on H800 and H20, fp16 on the 910B
    [("h800", "fp8", 591), ("h20", "fp8", 74), ("910b", "fp16", 175)],
)
def test_ridge_points_that_step3_prints(name: str, dtype: str, ridge: int) -> None:
    spec = find_hardware(name)
    assert round(spec.peak_ops_per_s(dtype) / spec.memory.rate.bytes_per_s) == ridge  # type: ignore[operator,union-attr]


def quoted(spec: HardwareSpec, tier: str) -> tuple[str | None, str | None]:
    (quote,) = spec.tiers()[tier].quoted
    return quote.capacity, quote.bandwidth


def test_the_hierarchy_that_mla_explanations_quote_is_the_a100_40gb() -> None:
    """FlashAttention (arXiv:2205.14135), Figure 1: SRAM 19 TB/s 20 MB, HBM 1.5 TB/s 40 GB, DRAM 12.8 GB/s."""
    spec = find_hardware("a100-40gb")
    assert spec.sram is not None
    assert spec.sram.theoretical_bytes_per_s == 108 * 128 * 1_410_000_000 == 19_491_840_000_000
    assert spec.sram.total_bytes == 108 * 192 * 1024 == 21_233_664  # 20.25 MiB
    assert spec.memory.theoretical_bytes_per_s == 5120 // 8 * 2 * 1_215_000_000 == 1_555_200_000_000
    assert quoted(spec, "sram") == ("20 MB", "19 TB/s")
    assert quoted(spec, "memory") == ("40 GB", "1.5 TB/s")
    assert quoted(spec, "host_dram") == ("1 TB", "12.8 GB/s")
    # The figures above, cut to the digits that are printed:
    assert spec.sram.theoretical_bytes_per_s // 10**12 == 19
    assert spec.memory.rate.bytes_per_s // 10**11 == 15  # type: ignore[union-attr]
    # and what is printed for DRAM is one 1600 MT/s channel, 32 times less than a two-socket host has:
    assert 8 * 1_600_000_000 == 12_800_000_000
    assert spec.host_dram is not None
    assert spec.host_dram.theoretical_bytes_per_s == 32 * 12_800_000_000


@pytest.mark.parametrize(
    ("name", "sms", "bytes_per_clock", "mhz"),
    # deviceQuery of each; Turing's 64 B/clk against 128: NVIDIA GA102 white paper
    [
        ("a100-80gb", 108, 128, 1410),
        ("h100-sxm", 132, 128, 1980),
        ("h200", 132, 128, 1980),
        ("t4", 40, 64, 1590),
        ("l40s", 142, 128, 2520),
    ],
)
def test_sram_bandwidth_is_units_times_width_times_clock(name: str, sms: int, bytes_per_clock: int, mhz: int) -> None:
    sram = shipped_accelerator(name).sram
    assert sram is not None
    assert sram.theoretical_bytes_per_s == sms * bytes_per_clock * mhz * 10**6


def test_h200_l2_is_60_mib_as_its_driver_says() -> None:
    """cuDeviceGetAttribute(L2_CACHE_SIZE) = 62914560; tables that copy the H100's 50 MB are wrong."""
    assert shipped_accelerator("h200").l2.total_bytes == 62_914_560  # type: ignore[union-attr]


def test_program_sees_on_h200_what_vllm_prints() -> None:
    """vLLM logs 139.81 GiB (cut: 139.80); nvidia-smi's total less the 616 MiB it calls reserved, to a MiB."""
    memory = shipped_accelerator("h200").memory
    assert memory.plan_basis == "application"
    assert memory.plan_bytes == 150_109_880_320
    assert memory.plan_bytes / 2**30 == pytest.approx(139.81, abs=0.01)
    assert abs((143771 - 616) * 2**20 - memory.plan_bytes) <= 2**20


def test_op_rates_are_dense() -> None:
    """A with-sparsity figure beside a dense one would show 4x or 1x where NVIDIA's fp8 is twice its bf16."""
    others = {"gb10": 1.0, "rubin": 4.375}  # found with a benchmark; as announced
    for spec in list_hardware():
        if spec.vendor == "nvidia" and {"bf16", "fp8"} <= spec.peak.keys():
            step = spec.peak["fp8"].exact / spec.peak["bf16"].exact
            assert step == pytest.approx(others.get(spec.name, 2), rel=0.03), spec.name

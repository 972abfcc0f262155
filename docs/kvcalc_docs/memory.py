"""docs/memory.md: what a GPU's memory goes to, the default of each term, and every log beside the prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from kvcalc.engines import all_engines
from kvcalc.engines.base import Engine, Parallel
from kvcalc.engines.budgets import outside_bytes
from kvcalc.engines.checks import version_key
from kvcalc.plan.overheads import OUTSIDE
from kvcalc.units import format_bytes
from kvcalc_docs.logs import DATA, GIB, GOOD, LEFT_OUT, OWN_TERMS, ROWS, Row
from kvcalc_docs.markdown import code, page, table

V1_ALONE = (0, 9, 0)
"""vLLM: before, some servers still ran the V0 engine."""

INTRODUCTION = """`kvcalc plan` and `kvcalc fit` write a GPU's memory out term by term, and the terms sum to the
total to the byte. Weights and cache are counted. The rest is what an engine and its libraries take beside them: these
are inputs, each with a default, the range seen in published logs, and an override."""

TERMS = (
    ("`reserve`", "reserve", "what the engine's fraction leaves alone (1 - `--gpu-memory-utilization`)", "arithmetic"),
    (
        "`non_torch`, `before_loading`",
        "overhead",
        "CUDA context, libraries, NCCL's buffers",
        "default by ranks and link",
    ),
    ("`activation`", "overhead", "the highest activations of the engine's trial step", "estimated from the model"),
    (
        "`absorbed`",
        "overhead",
        "16-bit copies of a quantised `kv_b_proj`, which MLA decoding multiplies with",
        "counted",
    ),
    ("`cuda_graphs`", "overhead", "what the engine sets aside for captured graphs", "default"),
    ("`runtime`", "overhead", "TensorRT-LLM: context, engine buffers and activations together", "default"),
    ("`runtime`", "overhead", "LMDeploy: buffers of logits", "arithmetic"),
    ("`attention`, ...", "weights", "one rank's share of the checkpoint ([parameters](parameters.md))", "counted"),
    ("`cache`", "cache", "the batch's blocks, or one request of the full length where admission asks more", "counted"),
)

DRIVER = """What a batch's blocks are: [engines](engines.md). The memory of a GPU is what its driver gives to an
application, not the vendor's GB: an "80 GB" H100 has 79.18 GiB ([accelerators](reference/hardware.md)). SGLang's
activations and graphs live in its reserve, so they are no terms of their own there."""

ACTIVATION = """vLLM runs one step of `max_num_batched_tokens` tokens and `max_num_seqs` sequences at start-up and
keeps its highest allocation free. kvcalc estimates it as the larger of

- a layer's: tokens x 2 B x (2 x hidden_size + the outputs of all matrices of its widest block, on one rank);
- the sampler's: sequences x vocab_size x bytes per logit, on ranks of the last pipeline stage. 38 B before 0.17
  (logits in 16 and 32 bits, sorted values, indices, the sort's copies), 14 B since (top-k and top-p filter in place).

Routed experts add two work spaces, data x top-k x (max(N, K) + max(N / 2, K)) elements per token, with N gate and up
together and K hidden_size (vLLM 0.33.0 `fused_moe/experts/triton_moe.py`): in place of the layer's before 0.17,
beside both since. How many tokens and sequences a step has depends on version and GPU (`engine/arg_utils.py`): 8,192
and 1,024 on an H100 or H200, 16,384 from 160 GiB on, 2,048 and 256 below 70 GiB and on an A100.

Not in the estimate: vision towers and their trial images, padding of weights for a kernel (MXFP4 on Hopper, bf16
experts under AITER), work spaces of compressed attention, LoRA, draft models. Where one applies, measure it once and
say so: `--overhead activation=6GiB`."""

OVERRIDE = """`--overhead NAME=SIZE`, once per term, on `plan`, `fit` and `size --engine`; in a plan file `overheads:
{activation: 6GiB}`. `--gpu-memory-utilization` sets the fraction. A server prints its own terms: `Model loading took`
(weights), `for peak activation`, `non-torch memory`, `for CUDAGraph memory`. Other than the defaults, a ledger marks
them as given."""


def memory_page() -> str:
    """The page, whole."""
    used, unused = ([row for row in ROWS if row.sample == name] for name in ("used", "unused"))
    return page(
        "What a GPU's memory goes to",
        INTRODUCTION, table(("term", "group", "what it is", "how it is known"), TERMS), DRIVER,
        "## Defaults", _defaults(),
        "### The trial step", ACTIVATION,
        "### Other figures than the defaults", OVERRIDE,
        "## Predicted and printed", _summary(used, unused),
        "### Rows that a default was chosen by, or may have been", _table(used),
        "### Rows found afterwards", _table(unused),
        "### Logs that print their own terms", _own_terms(),
        "### Logs that are not in the tables", table(("log", "why"), [(row["log"], row["why"]) for row in LEFT_OUT]),
    )  # fmt: skip


def _defaults() -> str:
    rows = [row for engine in all_engines() if engine.budget is not None for row in _charges(engine)]
    head = ("engine", "term", "one GPU", "8, NVLink", "8, PCIe", "seen", "source")
    text = """On a GPU of 80 GiB, in current versions. "From the model" is the estimate below, or a count. What NCCL
takes on GPUs whose only link is PCIe is a third of what it takes beside NVLink, as it has fewer channels there."""
    return f"{text}\n\n{table(head, rows, right=(2, 3, 4))}"


def _charges(engine: Engine) -> Iterator[tuple[object, ...]]:
    assert engine.budget is not None
    per_rank = []
    for ranks, linked in ((1, True), (8, True), (8, False)):
        settings = engine.configure(parallel=Parallel(tensor=ranks))
        estimates = dict.fromkeys(OUTSIDE, outside_bytes(ranks, linked=linked))
        found = engine.budget(settings, gpu_memory_bytes=80 * GIB, weights_bytes=0, estimates=estimates)
        per_rank.append([item for item in found.overheads if item.name != "weights"])
    for same in zip(*per_rank, strict=True):
        item, modelled = same[0], same[0].name in ("activation", "absorbed")
        shown = ["from the model"] * 3 if modelled and engine.name == "vllm" else [format_bytes(i.bytes) for i in same]
        seen = f"{format_bytes(item.low_bytes)} to {format_bytes(item.high_bytes)}"
        yield engine.name, code(item.name), *shown, seen, item.source.removeprefix("for this model and GPU; ")


def _summary(used: Sequence[Row], unused: Sequence[Row]) -> str:
    found = [
        (name, len(rows), sum(row.good for row in rows), f"{median(map(_of_memory, rows)):.1f}", f"{_most(rows):.1f}")
        for name, rows in (("used or seen", used), ("found afterwards", unused), ("all", [*used, *unused]))
    ]
    head = ("rows", "number", f"within {GOOD} %", "median error [% of the GPU]", "nine of ten within [% of the GPU]")
    tokens = [row for row in ROWS if row.tokens is not None]
    exact = sum(row.exact for row in tokens)
    misses = [row for row in unused if not row.good]
    old = sum(row.engine.startswith("vllm") and version_key(row.engine.split("@")[1]) < V1_ALONE for row in misses)
    return f"""Every log that states a model of the catalogue, GPU, TP, version and utilisation (or leaves the engine's
default) and the memory left to the cache; the budget beside it is kvcalc's, with default overheads and its own count of
the weights.

{table(head, found, right=(1, 2, 3, 4))}

The rows of the first table are a collection of one laboratory's servers ({code(DATA["db"].split(":")[0])}) and the
logs that the code names: the bytes per logit, the experts' work spaces and the defaults of `non_torch` and `runtime`
come from some of them, so their agreement proves little. The second table was collected later and changed no default.
{old} of its {len(misses)} misses are vLLM's V0 engine, which ran uncompiled. A pool that is small beside the GPU is
hard to hit: 1 GiB of 79 is more than 10 % of a pool of 8.

Of {len(tokens)} rows that print tokens, {exact} follow from the printed budget exactly: some number of blocks whose
bytes round to it gives the printed tokens and concurrency. The others say why not.

`tests/plan/test_startup_logs.py` holds all of this."""


def _of_memory(row: Row) -> float:
    """The error in per cent of the GPU's memory."""
    return 100 * abs(row.predicted - row.kv_gib * GIB) / row.hardware.memory.plan_bytes


def _most(rows: Sequence[Row]) -> float:
    ordered = sorted(map(_of_memory, rows))
    return ordered[(9 * len(ordered) + 9) // 10 - 1]


def _table(rows: Sequence[Row]) -> str:
    head = (
        "checkpoint", "engine", "GPUs", "fraction", "weights [GiB]", "printed", "budget [GiB]", "printed", "off [%]",
        "tokens", "source", "why",
    )  # fmt: skip
    return table(head, map(_cells, rows), right=range(4, 9))


def _cells(row: Row) -> tuple[object, ...]:
    extra = ["EP"] * row.ep + [f"DCP{row.dcp}"] * (row.dcp > 1) + [row.kv] * (row.kv != "bf16")
    weights = "" if row.weights_gib is None else f"{row.weights_gib:.2f}"
    off = "" if row.error is None else f"{row.error:+.1f}"
    tokens = "" if row.tokens is None else "exact" if row.exact else "no"
    why = "; ".join(filter(None, ("" if row.good else row.note, "" if tokens != "no" else row.tokens_note)))
    return (
        row.checkpoint, row.engine, ", ".join([f"{row.tp} x {row.gpu}", *extra]), f"{float(row.utilization):.4g}",
        f"{row.predicted_weights / GIB:.2f}", weights, f"{row.predicted / GIB:.2f}", f"{row.kv_gib:.2f}",
        off if row.good else f"**{off or 'none left'}**", tokens, row.source, why,
    )  # fmt: skip


def _own_terms() -> str:
    text = """These print all of their terms (and mostly no model of the catalogue): the rule of division alone is
checked, `ceil(total x fraction) - weights - terms`, against what was left."""
    rows = [
        (
            row["source"], f"{row['gpu_gib']:.2f}", row["utilization"],
            *(f"{row[name]:.2f}" for name in ("weights", "non_torch", "activation", "cuda_graphs", "kv_gib")),
        )
        for row in OWN_TERMS
    ]  # fmt: skip
    head = ("source", "GPU [GiB]", "fraction", "weights", "non-torch", "activation", "graphs", "left")
    return f"{text}\n\n{table(head, rows, right=range(1, 8))}"

"""vLLM's settings, and the rules that changed between its versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from kvcalc.engines.base import Parallel
from kvcalc.engines.checks import check_counts, version_key
from kvcalc.problems import usage_error
from kvcalc.units import GIB
from kvcalc.weights.activation import Trial

VERSION = "0.33.0"
NAME = "vllm"

TOKENS_BY_CONCURRENCY = (0, 21, 0)
"""From here the log's tokens are int(concurrency x max_model_len) (vllm PR 42206; issue 43308: 0.20.0 against 0.21.0).
Before: blocks // groups x smallest block size x context-parallel ranks."""
IN_FLIGHT_BATCHES = (0, 26, 0)
"""From here windows are freed when a step has been settled, so every concurrent batch counts (vllm PR 47728)."""
PREFIX_CACHED_STATES = (0, 28, 0)
"""From here hybrid models cache prefixes unless told not to, which keeps two states (vllm PR 50991, August 2026)."""
HYBRID_MANAGER = (0, 10, 0)
"""From here windows have groups of their own (logs seen from 0.10.2 on); before, they were charged in full."""
UTILIZATION_092 = (0, 21, 0)
"""From here the default of gpu_memory_utilization is 0.92 (config/cache.py:215)."""
GRAPHS_COUNTED = (0, 20, 0)
"""From here the cache pays for an estimate of the CUDA graphs (gpu_worker.py says 0.21, logs of 0.20.0 already do)."""
SAMPLER_KERNEL = (0, 17, 0)
"""From here top-k and top-p filter in place (v1/sample/ops/topk_topp_triton.py); before, they sorted the logits.
Work spaces of experts stay allocated from then on, too (v1/worker/workspace.py): logs of 0.16 and 0.18 differ so."""
FIRST_V1 = (0, 8, 0)
"""Before (V0), blocks had no null block."""

LARGE, LARGEST = 70 * GIB, 160 * GIB
"""GPUs of so much memory get larger steps unless told otherwise (engine/arg_utils.py get_batch_defaults)."""
SORTED_LOGIT_BYTES = 38
"""5.58 GiB of activations over 1,024 x 151,936 logits, as vLLM 0.10.2 printed for Qwen3-Next: logits in 16 and 32 bits,
sorted values with their indices, and the sort's own copies of both."""
LOGIT_BYTES = 2 + 4 + 4 + 4
"""A logit in 16 and 32 bits, its probability, and the random number it races (v1/sample/ops/topk_topp_sampler.py)."""

LAYOUTS = ("LBNHC", "LBHNC", "BLNHC", "BLHNC")
"""Orders of the pool's axes: layer, block, token (N), head, channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults are those of vLLM 0.33.0 as `vllm serve` on an H100 or H200 takes them."""

    version: str = VERSION
    parallel: Parallel = field(default_factory=Parallel)
    block_size: int | None = None
    """Tokens; None: what the attention backend prefers (16; 64 for MLA; 256 for compressed attention)."""
    max_model_len: int | None = None
    """None: the model's context."""
    max_num_batched_tokens: int = 8192
    """Tokens of one step. Default of `vllm serve` on a GPU of 70 GiB or more; 2048 below (engine/arg_utils.py)."""
    max_num_seqs: int = 1024
    """Sequences of one step. Default of `vllm serve` on a GPU of 70 GiB or more; 256 below, and on A100s."""
    async_scheduling: bool = True
    """Two batches in flight (config/vllm.py:588-609); on by default since about 0.14."""
    enable_prefix_caching: bool | None = None
    """None: the version's default."""
    hybrid_kv_cache_manager: bool = True
    """False: --disable-hybrid-kv-cache-manager, windows are charged in full."""
    num_speculative_tokens: int = 0
    """Above zero, the model's extra prediction layers take part in the pool."""
    kv_cache_layout: str | None = None
    """None: LBNHC, or BLHNC where the model needs it (v1/attention/backends/utils.py:229)."""
    mamba_ssm_cache_dtype: str = "auto"
    skip_layers: tuple[int, ...] | None = None
    """Layers left in the model's dtype; None: the first and last two for TurboQuant and UltraQuant, else none."""

    def __post_init__(self) -> None:
        version_key(self.version)
        check_counts(self)
        if self.kv_cache_layout is not None and self.kv_cache_layout not in LAYOUTS:
            raise usage_error(f"unknown KV cache layout {self.kv_cache_layout[:20]!r}", help=", ".join(LAYOUTS))

    @property
    def release(self) -> tuple[int, int, int]:
        """The version, to be compared with those above."""
        return version_key(self.version)

    @property
    def in_flight_tokens(self) -> int:
        """Tokens scheduled and not yet settled, at most (config/vllm.py:588-609)."""
        stages = self.parallel.pipeline
        if self.release < IN_FLIGHT_BATCHES:
            return self.max_num_batched_tokens
        return (stages + 1 if self.async_scheduling else stages) * self.max_num_batched_tokens

    @property
    def aligned_states(self) -> bool:
        """mamba_cache_mode: "align" (prefix caching, one state per block grid) or "none"."""
        if self.enable_prefix_caching is not None:
            return self.enable_prefix_caching
        return self.release >= PREFIX_CACHED_STATES

    @property
    def separate_kinds(self) -> bool:
        """Whether windows and states have groups of their own, or windows are charged in full."""
        return self.hybrid_kv_cache_manager and self.release >= HYBRID_MANAGER

    @property
    def tokens_by_concurrency(self) -> bool:
        """Whether the log's tokens follow from its concurrency, or from the blocks."""
        return self.release >= TOKENS_BY_CONCURRENCY

    @property
    def trial(self) -> Trial:
        """The step that the memory profiler runs."""
        sorts = self.release < SAMPLER_KERNEL
        return Trial(
            tokens=self.max_num_batched_tokens, sequences=min(self.max_num_seqs, self.max_num_batched_tokens),
            logit_bytes=SORTED_LOGIT_BYTES if sorts else LOGIT_BYTES, keeps_workspaces=not sorts,
        )  # fmt: skip

    @property
    def counts_graphs(self) -> bool:
        """Whether CUDA graphs are charged to the cache."""
        return self.release >= GRAPHS_COUNTED

    @property
    def default_utilization(self) -> Fraction:
        """gpu_memory_utilization unless given."""
        return Fraction(92, 100) if self.release >= UTILIZATION_092 else Fraction(90, 100)


def gpu_defaults(version: str, memory_bytes: int, name: str) -> dict[str, int]:
    """Tokens and sequences of a step unless given (vLLM 0.33.0 engine/arg_utils.py get_batch_defaults).

    A100s and GB10 count among the small GPUs there, whatever their memory; before V1 all do in their sequences.
    """
    small = memory_bytes < LARGE or any(word in name.lower() for word in ("a100", "gb10"))
    tokens = 2048 if small else 8192 if memory_bytes < LARGEST else 16384
    few = small or version_key(version) < FIRST_V1
    return {"max_num_batched_tokens": tokens, "max_num_seqs": 256 if few else 1024}

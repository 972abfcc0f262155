"""vLLM's settings, and the rules that changed between its versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from kvcalc.engines.base import Parallel, check_counts, version_key
from kvcalc.problems import usage_error

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
"""From here the default of gpu_memory_utilization is 0.92, and CUDA graphs are estimated (config/cache.py:215)."""
FIRST_V1 = (0, 8, 0)
"""Before (V0), blocks had no null block."""

LAYOUTS = ("LBNHC", "LBHNC", "BLNHC", "BLHNC")


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
        if self.parallel.tensor % self.parallel.decode_context:
            raise usage_error(
                f"-dcp {self.parallel.decode_context} does not divide -tp {self.parallel.tensor}",
                help="decode context parallelism shares the tensor-parallel ranks",
            )

    @property
    def release(self) -> tuple[int, int, int]:
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
        return self.release >= TOKENS_BY_CONCURRENCY

    @property
    def default_utilization(self) -> Fraction:
        return Fraction(92, 100) if self.release >= UTILIZATION_092 else Fraction(90, 100)

"""How ranks share the weights, as engines do it."""

from __future__ import annotations

from dataclasses import dataclass

from kvcalc.problems import usage_error
from kvcalc.tensors import Component, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSharding:
    """A layout of tensor x pipeline x data ranks.

    `data` replicates attention and dense blocks; routed experts are dealt out over all tensor x data ranks of a
    stage: whole ones with `expert_parallel`, slices of every expert without it (vLLM 0.33.0
    fused_moe/config.py: FusedMoEParallelConfig.make).
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert_parallel: bool = False
    ffn_tensor: int | None = None
    """TP of dense and shared blocks and the head, where it differs from attention's and the embedding's (SGLang's DP
    attention splits them over all ranks of a stage)."""
    stages: tuple[int, ...] | None = None
    """Layers of each pipeline stage; default: as vLLM deals them out."""

    @property
    def ranks(self) -> int:
        return self.tensor * self.pipeline * self.data

    def layers_of_stages(self, layers: int) -> tuple[int, ...]:
        """Layers that each stage holds.

        Raises:
            KvcalcError: more stages than layers, or stages that do not sum to the layers.
        """
        if self.stages is not None:
            if len(self.stages) != self.pipeline or sum(self.stages) != layers:
                raise usage_error(f"stages of {self.stages} layers are not {self.pipeline} stages of {layers} together")
            return self.stages
        return even_stages(layers, self.pipeline)

    def local(self, tensor: Tensor) -> Tensor:
        """What the fullest rank of a stage holds of this weight."""
        if tensor.component is Component.ROUTED_EXPERTS:
            everyone = self.tensor * self.data
            return tensor.on_rank(1, everyone) if self.expert_parallel else tensor.on_rank(everyone)
        if tensor.component in (Component.ATTENTION, Component.STATE, Component.EMBEDDING):
            return tensor.on_rank(self.tensor)
        return tensor.on_rank(self.ffn_tensor or self.tensor)


def check_decode_context(tensor: int, decode_context: int) -> None:
    """Context-parallel ranks are some of the tensor-parallel ones (vLLM's -dcp).

    Raises:
        KvcalcError: they are not a divisor of them.
    """
    if decode_context < 1 or tensor % decode_context:
        raise usage_error(
            f"-dcp {decode_context} does not divide -tp {tensor}",
            help="decode context parallelism shares the tensor-parallel ranks",
        )


def even_stages(layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each pipeline stage: what is left over goes to the stages before the last, from behind.

    Source: vLLM 0.33.0 distributed/utils.py get_pp_indices (SGLang 0.5.23 shares it).

    Raises:
        KvcalcError: a stage would be empty.
    """
    if stages > layers:
        raise usage_error(
            f"{layers} layers cannot fill {stages} pipeline stages", help=f"at most {layers} stages have a layer each"
        )
    each, left = divmod(layers, stages)
    return tuple(each + (1 if stages - 1 - left <= index < stages - 1 else 0) for index in range(stages))

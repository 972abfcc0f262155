"""Families that are known, and refused: what about their cache kvcalc cannot say."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.importers.family import Refused

_ENCODER = Refused(reason="an encoder reads its input once and keeps no KV cache")
_RWKV = Refused(reason="its recurrent state is none of the kinds that kvcalc describes")

REFUSED: Mapping[str, Refused] = dict.fromkeys(
    (
        "albert", "bert", "camembert", "clip", "deberta", "deberta-v2", "distilbert", "electra", "eurobert",
        "jina_embeddings_v3", "modernbert", "mpnet", "nomic_bert", "roberta", "siglip", "xlm-roberta",
    ),
    _ENCODER,
) | {
    "blt": Refused(reason="its local encoder and decoder keep caches per byte, its global model per patch"),
    "dots3_note_text": Refused(reason="its window layers and indexed layers keep latents of different shapes"),
    "glm5_next_text": Refused(reason="its pooled indexer keys are not described by any kind yet"),
    "mistral_large4_text": Refused(reason="its layers share caches by kv_source_layers, which is not read yet"),
    "qwen4_exp_text": Refused(reason="its indexed layers are not described by any kind yet"),
    "prophetnet": Refused(reason="its n-gram streams keep more than one cache per layer"),
    "recurrent_gemma": Refused(reason="its RG-LRU state is none of the kinds that kvcalc describes"),
    "reformer": Refused(reason="its hashed attention keeps buckets, not a cache of rows"),
    "rwkv": _RWKV,
    "rwkv5": _RWKV,
    "rwkv6": _RWKV,
    "rwkv7": _RWKV,
    "xlnet": Refused(reason="its memory of past segments is not a cache of rows per token"),
    "xlstm": Refused(reason="its matrix memory is none of the kinds that kvcalc describes"),
    "zaya": Refused(reason="its compressed convolutional attention is none of the kinds that kvcalc describes"),
}  # fmt: skip

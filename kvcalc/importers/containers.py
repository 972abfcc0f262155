"""Where the language model stands in a config: at the top, or nested in a multimodal one."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.importers.config import Config
from kvcalc.spec.document import Document

_TEXT = ("text_config",)
CONTAINERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "aria": (_TEXT, "aria_text"),
    "aya_vision": (_TEXT, "cohere2"),
    "blip-2": (_TEXT, "opt"),
    "cohere2_vision": (_TEXT, "cohere2"),
    "deepseek_ocr2": (_TEXT, "deepseek_ocr2_text"),
    "deepseek_vl": (_TEXT, "llama"),
    "deepseek_vl_hybrid": (_TEXT, "llama"),
    "deepseek_vl_v2": (("language_config",), "deepseek_v2"),
    "emu3": (_TEXT, "emu3_text_model"),
    "ernie4_5_vl_moe": (_TEXT, "ernie4_5_vl_moe_text"),
    "exaone4_5": (_TEXT, "exaone4"),
    "fuyu": (_TEXT, "persimmon"),
    "gemma3": (_TEXT, "gemma3_text"),
    "gemma3n": (_TEXT, "gemma3n_text"),
    "gemma4": (_TEXT, "gemma4_text"),
    "glm46v": (_TEXT, "glm4v_text"),
    "glm4v": (_TEXT, "glm4v_text"),
    "glm4v_moe": (_TEXT, "glm4v_moe_text"),
    "glm_ocr": (_TEXT, "glm_ocr_text"),
    "glmasr": (_TEXT, "llama"),
    "got_ocr2": (_TEXT, "qwen2"),
    "granite_speech": (_TEXT, "granite"),
    "hunyuan_vl": (_TEXT, "hunyuan_vl_text"),
    "hyperclovax_vision_v2": (_TEXT, "hyperclovax"),
    "idefics2": (_TEXT, "mistral"),
    "idefics3": (_TEXT, "llama"),
    "internvl": (_TEXT, "qwen2"),
    "internvl_chat": (("llm_config",), ""),
    "kimi_k25": (_TEXT, "deepseek_v3"),
    "kimi_k3": (_TEXT, "kimi_linear"),
    "kimi_vl": (_TEXT, "deepseek_v3"),
    "lfm2_vl": (_TEXT, "lfm2"),
    "lighton_ocr": (_TEXT, "qwen3"),
    "llama4": (_TEXT, "llama4_text"),
    "llava": (_TEXT, "llama"),
    "llava_next": (_TEXT, "llama"),
    "llava_next_video": (_TEXT, "llama"),
    "llava_onevision": (_TEXT, "qwen2"),
    "minimax_m3_vl": (_TEXT, "minimax_m3_vl_text"),
    "mistral3": (_TEXT, "mistral"),
    "mllama": (_TEXT, "mllama_text_model"),
    "ovis2": (_TEXT, "qwen2"),
    "paligemma": (_TEXT, "gemma"),
    "qwen2_5_omni": (("thinker_config", "text_config"), "qwen2_5_omni_text"),
    "qwen2_5_omni_thinker": (_TEXT, "qwen2_5_omni_text"),
    "qwen2_5_vl": (_TEXT, "qwen2_5_vl_text"),
    "qwen2_audio": (_TEXT, "qwen2"),
    "qwen2_vl": (_TEXT, "qwen2_vl_text"),
    "qwen3_5": (_TEXT, "qwen3_5_text"),
    "qwen3_5_moe": (_TEXT, "qwen3_5_moe_text"),
    "qwen3_asr": (_TEXT, "qwen3"),
    "qwen3_omni_moe": (("thinker_config", "text_config"), "qwen3_omni_moe_text"),
    "qwen3_omni_moe_thinker": (_TEXT, "qwen3_omni_moe_text"),
    "qwen3_vl": (_TEXT, "qwen3_vl_text"),
    "qwen3_vl_moe": (_TEXT, "qwen3_vl_moe_text"),
    "smolvlm": (_TEXT, "llama"),
    "step3_vl": (_TEXT, "step3_text"),
    "step3p7": (_TEXT, "step3p5"),
    "video_llava": (_TEXT, "llama"),
    "vipllava": (_TEXT, "llama"),
    "voxtral": (_TEXT, "llama"),
}
"""Multimodal `model_type` -> where its language model stands, and of which family it is where it does not say."""

FLAT: Mapping[str, str] = {
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "step3p7": "step3p5",
}
"""Written before `text_config` was used: the language model's keys stand at the top."""

RENAMED: Mapping[str, str] = {"deepseek_ref": "deepseek_v4"}
"""Names that conversions give to a family whose keys they keep (SGLang's DeepSeek-V4-Flash-FP8 and -Pro-FP8)."""

TOWERS = (
    "vision_config", "audio_config", "visual", "audio_encoder_config", "vq_config", "qformer_config",
    "projector_config", "perceiver_config", "encoder_config", "talker_config", "token2wav_config", "code2wav_config",
    "high_res_vision_config", "speech_config", "img_processor", "embd_layer", "audio_processor", "vision_tower",
)  # fmt: skip
"""Other models inside the config: they keep no cache of the language model's tokens."""


def text_config(document: Document) -> Config:
    """The part of a config that describes the language model."""
    outer = Config(document=document, data=document.data, model_type=_word(document.data))
    outer.harmless("model_type", "architectures", "window_size", *TOWERS)
    place = CONTAINERS.get(outer.model_type)
    if place is None:
        return outer
    path, family = place
    if path[0] not in outer.data:
        if outer.model_type in FLAT:
            outer.model_type = FLAT[outer.model_type]
            return outer
        outer.missing(path[0])
    inner = outer
    for key in path:
        inner = inner.section(key, nested=True) or inner.missing(key)
        inner.harmless("model_type", "architectures", *TOWERS)
    outer.sections.clear()
    inner.model_type = _word(inner.data) or family
    inner.outer = outer
    # A copy of the nested keys at the top (older files have both) must agree with them; `unread` sees to the rest.
    outer.harmless(*(key for key, value in inner.data.items() if key in outer.data and outer.data[key] == value))
    return inner


def _word(data: Mapping[str, object]) -> str:
    word = data.get("model_type")
    return RENAMED.get(word, word) if isinstance(word, str) else ""

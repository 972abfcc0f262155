"""Other people's files: config.json, GGUF headers, logs, traces, measured ceilings."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from functools import cache
from unittest import mock

from fuzz.edits import edits, texts
from fuzz.oracle import harmless, report_shown, shown
from fuzz.questions import asked_of_model, gpu, small
from fuzz.scratch import written
from fuzz.seeds import CALIBRATIONS, GGUF, LOGS, TRACES, gguf_bytes
from fuzz.target import Target
from import_configs import KNOWN

from kvcalc.calibration import load_calibration
from kvcalc.importers.gguf import load_gguf
from kvcalc.importers.hf_config import DENSE_GQA, ImportedSpec, read_document
from kvcalc.importers.load import json_document, spec_of
from kvcalc.importers.writer import to_yaml
from kvcalc.plan.lengths import load_trace
from kvcalc.reconcile import model_in, reconcile, trial
from kvcalc.render.reconciliation import reconcile_document
from kvcalc.render.tiers import tiers_document
from kvcalc.spec.yamlio import load_yaml
from kvcalc.tiers import tiers
from kvcalc.units import MAX_COUNT

MAX_REMARK = 2000


def _asked_of_import(found: ImportedSpec, data: bytes) -> None:
    for line in (*found.assumed, *found.defaults, *found.notes):
        assert len(line) < MAX_REMARK, f"an endless remark: {line[:500]}"
    written = to_yaml(found)
    harmless(written)
    again = load_yaml("x.yaml", written.encode()).data
    assert again == json.loads(json.dumps(found.raw)), "what is written is not what was read"
    asked_of_model(spec_of(found), zlib.crc32(data))


def config_json(data: bytes) -> None:
    document = json_document("config.json", data)
    assume = (None, DENSE_GQA)[zlib.crc32(data) % 2]
    _asked_of_import(read_document(document, assume=assume, name="x"), data)


@cache
def _configs() -> tuple[str, ...]:
    return texts([known.config for known in KNOWN.values()])


def gguf_header(data: bytes) -> None:
    _asked_of_import(load_gguf(written("x.gguf", data)), data)


@cache
def _metadata() -> tuple[str, ...]:
    return texts(GGUF)


def log(data: bytes) -> None:
    """Mostly with a short search for what explains a difference: the whole of it takes a thousand times as long."""
    model_in(data)
    whole = zlib.crc32(data) % 256 == 0
    with mock.patch.object(trial, "MAX_TRIALS", trial.MAX_TRIALS if whole else 4):
        report = reconcile(data, small(), name="x.log")
    report_shown("reconcile", report, thoroughly=whole)
    shown(reconcile_document(report))


def trace(data: bytes) -> None:
    """Rounding lengths up never makes them fewer or shorter; nothing in it is beyond what a user may ask for."""
    found = load_trace(written("x.csv", data))
    for lengths in (found.totals, found.held):
        rounded = lengths.rounded_up()
        assert (rounded.count, rounded.longest) == (lengths.count, lengths.longest)
        assert rounded.mean >= lengths.mean
        assert 1 <= lengths.percentile(50) <= lengths.percentile(99) <= lengths.longest <= 2 * MAX_COUNT
    assert found.mean_decoded > 0


def calibration(data: bytes) -> None:
    found = load_calibration(written("x.json", data))
    assert found.bytes_per_s > 0
    shown(tiers_document(tiers(small(), gpu(), batch_size=3, seq_len=2000, calibration=found)))


_JSON_WORDS = (
    '"model_type" "llama" "num_hidden_layers" "hidden_size" "num_attention_heads" "num_key_value_heads" "head_dim" '
    '"sliding_window" "layer_types" "full_attention" "text_config" "rope_scaling" null true false [] {} -1 0 1e999'
)

TARGETS: Mapping[str, Target] = {
    "config-json": Target(config_json, lambda: [text.encode() for text in _configs()], 60, _JSON_WORDS),
    "config-edits": edits("config-json", config_json, _configs, 40),
    "gguf-header": Target(gguf_header, lambda: [gguf_bytes(keys) for keys in GGUF], 80),
    "gguf-edits": edits("gguf-header", gguf_header, _metadata, 50, gguf_bytes),
    "log": Target(
        log, lambda: LOGS, 60, "KV GiB tokens: blocks: tp_size= page_size= n_ctx cells layers size MiB K V 0 9"
    ),
    "trace": Target(trace, lambda: TRACES, 150, 'isl osl seq_len , \\x0d\\x0a \\x22 0 1152921504606846976 {"isl":'),
    "calibration": Target(calibration, lambda: CALIBRATIONS, 60, '"machine" "ceilings" "gemm_flops_per_s" 1e999 NaN'),
}

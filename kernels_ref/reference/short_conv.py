"""Gated short convolution (LFM2): y_t = C_t * conv(B * x)_t; the last K - 1 products B * x are kept."""

from __future__ import annotations

from kernels_ref.reference.common import Random, Run, depthwise, depthwise_step, last_rows
from kvcalc.attention.short_conv import ShortConv


def run(kind: ShortConv, tokens: int, random: Random) -> Run:
    channels, kernel = kind.conv_dim, kind.conv_L_cache
    b, c, x = (random(tokens, channels) for _ in range(3))
    weight = random(channels, kernel)
    gated = b * x
    past = last_rows(gated[:-1], kernel - 1)  # before the last token
    decoded = c[-1] * depthwise_step(past, gated[-1], weight)
    return Run(
        cache={"conv": last_rows(gated, kernel - 1)[:, :, None]},
        decoded=decoded,
        expected=(c * depthwise(gated, weight))[-1],
    )

"""Tones as PCMU, and what is left of them at the far end: frequency, purity, level, onset."""

import numpy as np
from numpy.typing import NDArray

RATE = 8000
PTIME_SAMPLES = 160
Samples = NDArray[np.float64]

_BIAS, _CLIP = 0x84, 32635


def tone(
    frequency: float, seconds: float, *, amplitude: float = 0.4, rate: int = RATE, seed: int = 1
) -> Samples:
    """A sine with a whisper of noise, so that no two packets are alike."""
    at = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.002, at.size)
    return amplitude * np.sin(2 * np.pi * frequency * at) + noise


def ulaw_encode(samples: Samples) -> bytes:
    """ITU-T G.711 mu-law, 14-bit segments."""
    pcm = np.clip(samples * 32767, -_CLIP, _CLIP).astype(np.int32)
    sign = np.where(pcm < 0, 0x80, 0)
    magnitude = np.minimum(np.abs(pcm), _CLIP) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8).tobytes()


def ulaw_decode(payload: bytes) -> Samples:
    """The inverse, -1..1."""
    code = ~np.frombuffer(payload, np.uint8).astype(np.int32) & 0xFF
    exponent, mantissa = (code >> 4) & 7, code & 0x0F
    magnitude = (((mantissa << 3) + _BIAS) << exponent) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude) / 32768.0


def purity(samples: Samples, frequency: float, *, rate: int = RATE, width: float = 40.0) -> float:
    """Share of the power (DC left out) that lies within `width` Hz of the frequency, 0..1."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size))) ** 2
    frequencies = np.fft.rfftfreq(samples.size, 1 / rate)
    heard = spectrum[frequencies > 50].sum()
    near = spectrum[np.abs(frequencies - frequency) <= width].sum()
    return float(near / heard) if heard > 0 else 0.0


def rms(samples: Samples) -> float:
    """Level, -1..1 full scale."""
    return float(np.sqrt(np.mean(np.square(samples)))) if samples.size else 0.0


def seconds_of_tone(samples: Samples, frequency: float, *, rate: int = RATE, window: float = 0.2) -> float:
    """How long the tone is heard clearly, counted in windows."""
    step = int(window * rate)
    windows = (samples[at : at + step] for at in range(0, samples.size - step + 1, step))
    return window * sum(rms(part) > 0.02 and purity(part, frequency, rate=rate) > 0.8 for part in windows)

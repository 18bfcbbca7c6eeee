"""A real Chromium with a tone for a microphone, and a meter on what it plays."""

import asyncio
import contextlib
import itertools
import re
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.async_api import Page, async_playwright, expect

from tests.interop.tone import tone

# A busy machine may take a while to start Chromium; elsewhere what is waited for comes at once.
expect.set_options(timeout=20_000)

FLAGS = [
    "--no-sandbox",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
]

# Listens to the remote stream: first for the moment the tone begins (every 5 ms), then every 50 ms the share
# of power near the frequency, the level and the time.
METER = """async ({frequency, seconds}) => {
  const audio = document.getElementById("remote-audio");
  while (!audio.srcObject || audio.srcObject.getAudioTracks().length === 0)
    await new Promise((resolve) => setTimeout(resolve, 20));
  const context = new AudioContext();
  await context.resume();
  const analyser = new AnalyserNode(context, {fftSize: 8192, smoothingTimeConstant: 0});
  const quick = new AnalyserNode(context, {fftSize: 256});
  const source = context.createMediaStreamSource(audio.srcObject);
  source.connect(analyser);
  source.connect(quick);
  const samples = new Float32Array(quick.fftSize);
  const patience = performance.now() + 15000;
  do {
    await new Promise((resolve) => setTimeout(resolve, 5));
    quick.getFloatTimeDomainData(samples);
  } while (Math.max(...samples) < 0.05 && performance.now() < patience);
  const onset = Date.now() / 1000;
  const bins = new Float32Array(analyser.frequencyBinCount);
  const width = context.sampleRate / analyser.fftSize;
  const readings = [];
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    analyser.getFloatFrequencyData(bins);
    let near = 0, all = 1e-12;
    for (let bin = Math.ceil(50 / width); bin < bins.length; bin++) {
      const power = 10 ** (bins[bin] / 10);
      all += power;
      if (Math.abs(bin * width - frequency) <= 40) near += power;
    }
    readings.push({at: Date.now() / 1000, purity: near / all, level: 10 * Math.log10(all)});
  }
  await context.close();
  return {onset, readings};
}"""


# Keeps every RTCPeerConnection the page makes, so that getStats() can be asked.
KEEP_PEERS = """
  window.testPeers = [];
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...given) { super(...given); window.testPeers.push(this); }
  };
"""


def microphone(path: Path, frequency: float) -> Path:
    """A WAV that Chromium loops as its microphone."""
    samples = (tone(frequency, 10, rate=48000) * 32767).astype(np.int16)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(48000)
        out.writeframes(samples.tobytes())
    return path


@contextlib.asynccontextmanager
async def chromium_page(
    url: str, folder: Path, frequency: float, *, tolerate: str = "$^"
) -> AsyncIterator[Page]:
    """The page opened in Chromium; a console error that `tolerate` does not match fails the test."""
    wav = microphone(folder / "microphone.wav", frequency)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=[*FLAGS, f"--use-file-for-fake-audio-capture={wav}"]
        )
        page = await (await browser.new_context(permissions=["microphone"])).new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.add_init_script(KEEP_PEERS)
        await page.goto(url)
        try:
            yield page
            errors = [error for error in errors if not re.search(tolerate, error)]
            assert not errors, errors
        finally:
            await browser.close()


@dataclass
class Measured:
    """What the page heard."""

    onset: float
    readings: list[dict[str, float]]

    def heard(self) -> float:
        """Seconds in which the tone was clear."""
        pairs = itertools.pairwise(self.readings)
        return sum(b["at"] - a["at"] for a, b in pairs if a["purity"] > 0.8 and a["level"] > -60)


@contextlib.asynccontextmanager
async def meter(
    page: Page, frequency: float, seconds: float
) -> AsyncIterator[Callable[[], Awaitable[Measured]]]:
    """Listen for a tone that begins inside the block; calling the value waits for the end."""
    listening = asyncio.ensure_future(page.evaluate(METER, {"frequency": frequency, "seconds": seconds}))
    await asyncio.sleep(0.5)

    async def measured() -> Measured:
        return Measured(**(await listening))

    try:
        yield measured
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def inbound_audio(page: Page) -> dict[str, Any]:
    """What getStats() says of the audio that came in, over every connection the page made."""
    reports: list[dict[str, Any]] = await page.evaluate(
        """async () => {
          const found = [];
          for (const peer of window.testPeers)
            for (const report of (await peer.getStats()).values())
              if (report.type === "inbound-rtp" && report.kind === "audio") found.push(report);
          return found;
        }"""
    )
    return reports[-1]

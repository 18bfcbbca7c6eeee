"""baresip, a softphone in a network of its own: dials, plays a tone and keeps what it hears."""

import asyncio
import contextlib
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.interop.gateway import eventually
from tests.interop.namespaces import Network
from tests.interop.tone import RATE, Samples, tone

TONE = 440.0
CONFIG = """
poll_method epoll
call_local_timeout 120
audio_path {folder}
audio_player aubridge,nil
snd_path {folder}
audio_source aufile,{folder}/tone.wav
audio_alert aufile,{folder}/alert.wav
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
audio_level no
module_path /usr/lib/baresip/modules
module stdio.so
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module_app account.so
module_app menu.so
"""


@dataclass
class Baresip:
    """A running one."""

    process: asyncio.subprocess.Process
    folder: Path
    log: Path

    async def said(self, words: str, timeout: float = 10) -> None:
        """Wait until it has said so."""

        async def seen() -> bool:
            return words in self.log.read_text(errors="replace")

        try:
            await eventually(seen, f"baresip: {words!r}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text(errors='replace')[-3000:]}") from None

    async def stop(self) -> None:
        """End it: what it heard is complete then."""
        if self.process.returncode is None:
            self.process.terminate()
            await asyncio.wait_for(self.process.wait(), 10)

    def heard(self) -> tuple[Samples, int]:
        """What came in, and its rate."""
        with wave.open(str(next(self.folder.glob("dump-*dec.wav")))) as file:
            raw, rate = file.readframes(file.getnframes()), file.getframerate()
        return np.frombuffer(raw, dtype="<i2").astype(float) / 32768, rate


@contextlib.asynccontextmanager
async def baresip(network: Network, folder: Path, account: str, *commands: str) -> AsyncIterator[Baresip]:
    """Run it with one account line; `commands` are typed once it is up."""
    folder.mkdir()
    (folder / "config").write_text(CONFIG.format(folder=folder))
    (folder / "accounts").write_text(account + "\n")
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((tone(TONE, 10) * 32767).astype("<i2").tobytes())
    (folder / "contacts").write_text("")
    typed = [word for command in commands for word in ("-e", command)]
    log = folder / "baresip.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", network.namespace, "baresip", "-4", "-s", "-f", str(folder), *typed),
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    running = Baresip(process, folder, log)
    try:
        yield running
    finally:
        await running.stop()

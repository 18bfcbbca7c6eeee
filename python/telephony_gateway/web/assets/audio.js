/** What the softphone does with sound besides the call: levels and a ring. */

/** @type {AudioContext | null} */
let shared = null;

/** One context for the page, made at the first user gesture that needs it. */
function context() {
  shared ??= new AudioContext();
  if (shared.state === "suspended") shared.resume().catch(() => undefined);
  return shared;
}

/**
 * Report a stream's level, 0..1, about 15 times a second.
 * @param {MediaStream} stream @param {(level: number) => void} report @returns {() => void} stop
 */
export function watchLevel(stream, report) {
  if (stream.getAudioTracks().length === 0) return () => undefined;
  const source = context().createMediaStreamSource(stream);
  const analyser = new AnalyserNode(context(), { fftSize: 512 });
  source.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    // -60 dBFS is an empty meter, 0 dBFS a full one.
    report(Math.max(0, Math.min(1, 1 + (10 * Math.log10(power + 1e-9)) / 60)));
  }, 66);
  return () => {
    clearInterval(timer);
    source.disconnect();
  };
}

/** Ring until stopped: two soft tones, one second of four. @returns {() => void} stop */
export function ring() {
  const gain = new GainNode(context(), { gain: 0 });
  gain.connect(context().destination);
  const tones = [440, 554].map((frequency) => {
    const tone = new OscillatorNode(context(), { frequency });
    tone.connect(gain);
    tone.start();
    return tone;
  });
  const pulse = () => {
    const now = context().currentTime;
    gain.gain.setTargetAtTime(0.06, now, 0.02);
    gain.gain.setTargetAtTime(0, now + 1, 0.05);
  };
  pulse();
  const timer = setInterval(pulse, 4_000);
  return () => {
    clearInterval(timer);
    for (const tone of tones) tone.stop();
    gain.disconnect();
  };
}

/** The softphone page: answer, dial, talk, mute, digits. State lives in one reducer; the SDK does the work. */
import { ring, watchLevel } from "./audio.js";
import { Gateway, TERMINAL, openMicrophone } from "./gateway.js";
import { html, render, useEffect, useReducer, useRef, useState } from "./vendor/preact.js";

/** @typedef {import("./gateway.js").Call} Call */
/** @typedef {import("./gateway.js").Conversation} Conversation */
/**
 * @typedef {object} State
 * @property {boolean} open                        the socket is up
 * @property {Record<string, Call>} calls          what the gateway told us of
 * @property {string | null} current               the call on screen
 * @property {Conversation | null} conversation
 * @property {boolean} busy                        joining or dialling
 * @property {string} notice
 */
/** @typedef {{type: "connection", open: boolean} | {type: "call", call: Call} | {type: "declined", callId: string}
 *   | {type: "busy"} | {type: "joined", conversation: Conversation} | {type: "released", callId: string} | {type: "notice", text: string}} Action */

/** @type {State} */
const START = { open: false, calls: {}, current: null, conversation: null, busy: false, notice: "" };
const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
const ENDINGS = /** @type {Record<string, string>} */ ({
  completed: "Call ended", busy: "Busy", failed: "Call failed", "no-answer": "No answer", canceled: "Canceled",
});

/** @param {State} state @param {Action} action @returns {State} */
function reduce(state, action) {
  switch (action.type) {
    case "connection": return action.open ? { ...state, open: true } : disconnected(state);
    case "call": return withCall(state, action.call);
    case "declined": return { ...state, notice: "", calls: without(state.calls, action.callId) };
    case "busy": return { ...state, busy: true, notice: "" };
    case "joined": return { ...state, busy: false, conversation: action.conversation, current: action.conversation.callId };
    case "released": return state.conversation?.callId === action.callId ? { ...state, conversation: null } : state;
    case "notice": return { ...state, busy: false, notice: action.text };
  }
}

/**
 * What happens to the calls now we do not hear; what still rings is told anew with the next connection.
 * @param {State} state @returns {State}
 */
function disconnected(state) {
  const notice = state.current || state.busy ? "The connection to the gateway was lost" : state.notice;
  return { ...START, notice };
}

/** @param {State} state @param {Call} call @returns {State} */
function withCall(state, call) {
  if (!TERMINAL.has(call.status)) return { ...state, calls: { ...state.calls, [call.id]: call } };
  const calls = without(state.calls, call.id);
  if (state.current !== call.id) return { ...state, calls };
  const ending = ENDINGS[call.status] ?? call.status;
  return { ...state, calls, current: null, busy: false, notice: call.reason ? `${ending}: ${call.reason}` : ending };
}

/** @param {Record<string, Call>} calls @param {string} callId */
function without(calls, callId) {
  const { [callId]: _gone, ...others } = calls;
  return others;
}

/** @param {string} address */
function shortName(address) {
  return address.replace(/^sips?:/, "").replace(/[;?].*$/, "").replace(/@.*$/, "") || address;
}

/** @param {number} seconds */
function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** @param {{label: string, stream: MediaStream | null, id: string}} props */
function Meter({ label, stream, id }) {
  const [level, setLevel] = useState(0);
  useEffect(() => (stream ? watchLevel(stream, setLevel) : undefined), [stream]);
  return html`<div class="meter" role="meter" aria-label=${label} data-testid=${id} aria-valuemin="0" aria-valuemax="1"
    aria-valuenow=${level.toFixed(2)}><span>${label}</span><progress max="1" value=${level}></progress></div>`;
}

/** @param {{since: string | null | undefined}} props */
function Timer({ since }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  return html`<time>${since ? clock((now - Date.parse(since)) / 1000) : "…"}</time>`;
}

/** @param {{press: (key: string) => void}} props */
function Keypad({ press }) {
  return html`<div class="keypad">${KEYS.map((key) => html`<button type="button" data-testid=${`key-${key}`}
    onClick=${() => press(key)}>${key}</button>`)}</div>`;
}

/** @param {{call: Call, busy: boolean, answer: () => void, decline: () => void}} props */
function Ringing({ call, busy, answer, decline }) {
  useEffect(() => ring(), [call.id]);
  return html`<section class="card ringing" data-testid="incoming">
    <p class="eyebrow">Incoming call</p>
    <h1 data-testid="caller">${call.from_name || shortName(call.from)}</h1>
    ${call.from_name && html`<p class="quiet" data-testid="caller-number">${shortName(call.from)}</p>`}
    <p class="quiet">to ${shortName(call.to)}</p>
    <div class="row">
      <button class="go" data-testid="answer" disabled=${busy} onClick=${answer}>Answer</button>
      <button class="stop" data-testid="decline" onClick=${decline}>Decline</button>
    </div></section>`;
}

/** @param {{call: Call, conversation: Conversation, hangUp: () => void}} props */
function Talking({ call, conversation, hangUp }) {
  const [muted, setMuted] = useState(false);
  const [heard, setHeard] = useState(/** @type {MediaStream | null} */ (null));
  const [digits, setDigits] = useState("");
  useEffect(() => {
    const audio = /** @type {HTMLAudioElement} */ (document.getElementById("remote-audio"));
    audio.srcObject = conversation.remote;
    audio.play().catch(() => undefined);
    const poll = setInterval(() => {
      if (conversation.remote.getAudioTracks().length === 0) return;
      setHeard(conversation.remote);
      clearInterval(poll);
    }, 100);
    return () => { clearInterval(poll); audio.srcObject = null; };
  }, [conversation]);
  const toggle = () => { conversation.mute(!muted); setMuted(!muted); };
  const press = (/** @type {string} */ key) => { conversation.sendDigits(key); setDigits((all) => (all + key).slice(-16)); };
  const other = call.direction === "inbound" ? call.from_name || call.from : call.to;
  return html`<section class="card" data-testid="talking">
    <p class="eyebrow" data-testid="status">${call.status}</p>
    <h1>${shortName(other)}</h1>
    <p class="quiet"><${Timer} since=${call.answered_at} /> ${digits}</p>
    <${Meter} id="meter-in" label="Them" stream=${heard} />
    <${Meter} id="meter-out" label="You" stream=${conversation.microphone} />
    <${Keypad} press=${press} />
    <div class="row">
      <button class="plain" data-testid="mute" aria-pressed=${muted} onClick=${toggle}>${muted ? "Unmute" : "Mute"}</button>
      <button class="stop" data-testid="hangup" onClick=${hangUp}>Hang up</button>
    </div></section>`;
}

/** @param {{dial: (to: string, trunk: string) => void, busy: boolean, open: boolean}} props */
function Dialler({ dial, busy, open }) {
  const [to, setTo] = useState("");
  const [trunk, setTrunk] = useState("");
  const submit = (/** @type {Event} */ event) => { event.preventDefault(); if (to.trim()) dial(to.trim(), trunk.trim()); };
  const direct = /^sips?:/i.test(to.trim()) || to.trim() === "";
  return html`<form class="card" data-testid="dialler" onSubmit=${submit}>
    <p class="eyebrow">New call</p>
    <input name="to" data-testid="dial-to" placeholder="sip:alice@192.0.2.10 or a number" autocomplete="off" value=${to}
      aria-label="Whom to call" onInput=${(/** @type {any} */ event) => setTo(event.target.value)} />
    ${direct ? null : html`<input name="trunk" data-testid="dial-trunk" placeholder="trunk" autocomplete="off" value=${trunk}
      aria-label="Trunk" onInput=${(/** @type {any} */ event) => setTrunk(event.target.value)} />`}
    <${Keypad} press=${(/** @type {string} */ key) => setTo((text) => text + key)} />
    <button class="go wide" data-testid="dial" disabled=${busy || !open}>Call</button></form>`;
}

/** @param {{submit: (key: string) => void, notice: string}} props */
function KeyForm({ submit, notice }) {
  const [key, setKey] = useState("");
  return html`<form class="card" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); submit(key); }}>
    <p class="eyebrow">This gateway needs a key</p>
    ${notice && html`<p class="notice" role="alert" data-testid="notice">${notice}</p>`}
    <input type="password" data-testid="api-key" placeholder="API key" autocomplete="off" value=${key} aria-label="API key"
      onInput=${(/** @type {any} */ event) => setKey(event.target.value)} />
    <button class="go wide">Connect</button></form>`;
}

/** @param {{gateway: Gateway, needsKey: boolean}} props */
function Softphone({ gateway, needsKey }) {
  const [state, dispatch] = useReducer(reduce, START);
  const [locked, setLocked] = useState(needsKey);
  const holding = useRef(/** @type {Conversation | null} */ (null));
  useEffect(() => listen(gateway, dispatch), []);
  useEffect(() => {
    // A gateway that does not answer is tried again, and the header says so.
    if (!locked) gateway.connect().catch(() => undefined);
  }, [locked]);
  useEffect(() => {
    const refused = () => { dispatch({ type: "notice", text: "The gateway does not know this key" }); setLocked(true); };
    gateway.addEventListener("refused", refused);
    return () => gateway.removeEventListener("refused", refused);
  }, []);

  const fail = (/** @type {Error} */ error) => dispatch({ type: "notice", text: error.message });
  const join = async (/** @type {string} */ callId, /** @type {MediaStream | undefined} */ microphone = undefined) => {
    dispatch({ type: "busy" });
    const conversation = await gateway.join(callId, microphone ? { microphone } : {});
    holding.current = conversation;
    conversation.addEventListener("released", () => dispatch({ type: "released", callId }), { once: true });
    dispatch({ type: "joined", conversation });
  };
  const dial = async (/** @type {string} */ to, /** @type {string} */ trunk) => {
    dispatch({ type: "busy" });
    // Nobody's phone shall ring for a page that may not speak.
    const microphone = await openMicrophone();
    const call = await gateway.dial(trunk ? { to, trunk } : { to }).catch((error) => {
      for (const track of microphone.getTracks()) track.stop();
      throw error;
    });
    dispatch({ type: "call", call });
    await join(call.id, microphone).catch((error) => {
      gateway.end(call.id).catch(() => undefined);
      throw error;
    });
  };
  const decline = (/** @type {string} */ callId) => gateway.decline(callId).then(() => dispatch({ type: "declined", callId }));
  const hangUp = (/** @type {string} */ callId) => gateway.end(callId).finally(() => holding.current?.release());

  if (locked) return html`<${KeyForm} submit=${(/** @type {string} */ key) => { gateway.apiKey = key; setLocked(false); dispatch({ type: "notice", text: "" }); }} notice=${state.notice} />`;
  const talking = state.conversation && state.calls[state.conversation.callId];
  const waiting = Object.values(state.calls).filter((call) => call.direction === "inbound" && call.status === "ringing");
  return html`<header><span class=${state.open ? "dot on" : "dot"}></span>
      <strong>Telephony Gateway</strong><span class="quiet" data-testid="connection">${state.open ? "ready" : "connecting…"}</span></header>
    ${state.notice && html`<p class="notice" role="alert" data-testid="notice">${state.notice}</p>`}
    ${talking && waiting.map((call) => html`<p class="notice" role="alert" data-testid="waiting">${call.from_name || shortName(call.from)} is calling</p>`)}
    ${talking && state.conversation
      ? html`<${Talking} call=${talking} conversation=${state.conversation} hangUp=${() => hangUp(talking.id).catch(fail)} />`
      : waiting.map((call) => html`<${Ringing} key=${call.id} call=${call} busy=${state.busy}
          answer=${() => join(call.id).catch(fail)} decline=${() => decline(call.id).catch(fail)} />`)}
    ${!talking && waiting.length === 0 && html`<${Dialler} busy=${state.busy} open=${state.open}
      dial=${(/** @type {string} */ to, /** @type {string} */ trunk) => dial(to, trunk).catch(fail)} />`}`;
}

/** @param {Gateway} gateway @param {(action: Action) => void} dispatch @returns {() => void} */
function listen(gateway, dispatch) {
  /** @param {string} type @param {(detail: any) => void} handle */
  const on = (type, handle) => {
    const listener = (/** @type {Event} */ event) => handle(/** @type {CustomEvent} */ (event).detail);
    gateway.addEventListener(type, listener);
    return () => gateway.removeEventListener(type, listener);
  };
  const stops = [
    on("connection", ({ open }) => dispatch({ type: "connection", open })),
    ...["incoming-call", "call-state", "call-ended"].map((type) => on(type, ({ call }) => dispatch({ type: "call", call }))),
    on("error", ({ message }) => dispatch({ type: "notice", text: message })),
  ];
  return () => stops.forEach((stop) => stop());
}

const parameters = new URLSearchParams(location.search);
const gateway = new Gateway({ browser: parameters.get("browser") ?? "" });
const probe = await fetch("/api/v1/calls?limit=1").catch(() => null);
render(html`<${Softphone} gateway=${gateway} needsKey=${probe?.status === 401} />`,
  /** @type {Element} */ (document.getElementById("softphone")));

/**
 * The browser SDK of Telephony Gateway: one dependency-free module.
 *
 *     const gateway = new Gateway();
 *     gateway.addEventListener("incoming-call", (event) => console.log(event.detail.call.from));
 *     await gateway.connect();
 *     const conversation = await gateway.join(callId);   // microphone, offer, answer
 *     conversation.sendDigits("42#");
 *     await conversation.leave();
 *
 * It never polls: calls arrive as `incoming-call`, `call-state` and `call-ended` events.
 */

/**
 * @typedef {object} Call
 * @property {string} id
 * @property {"inbound" | "outbound"} direction
 * @property {string} status  queued, ringing, in-progress or a terminal status
 * @property {string} from
 * @property {string | null} [from_name]
 * @property {string} to
 * @property {string | null} [trunk]
 * @property {string | null} [answered_at]  RFC 3339
 * @property {string | null} [reason]
 * @property {string | null} [hangup_cause]
 */

/** @typedef {{type: string, request_id?: string, [field: string]: any}} Frame */

const REQUEST_TIMEOUT = 10_000;
const RECONNECT_DELAYS = [500, 1_000, 2_000, 5_000, 10_000];
export const TERMINAL = new Set(["completed", "busy", "failed", "no-answer", "canceled"]);

/** What the gateway answered instead of what was asked for; `code` is a stable word. */
export class GatewayError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = "GatewayError";
    this.code = code;
  }
}

/**
 * Open the microphone, or say in plain words why that cannot be.
 * @param {MediaTrackConstraints} [audio] @returns {Promise<MediaStream>}
 */
export async function openMicrophone(audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true }) {
  // Browsers hide the whole interface from pages of plain http:// that are not on localhost.
  if (!navigator.mediaDevices) throw new GatewayError("no_microphone", "the microphone needs an https:// page, or localhost");
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    const denied = error instanceof DOMException && error.name === "NotAllowedError";
    throw new GatewayError("no_microphone", denied ? "the microphone is not allowed: allow it for this page" : `there is no microphone: ${error}`);
  }
}

export class Gateway extends EventTarget {
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {Map<string, {resolve: (frame: Frame) => void, reject: (error: Error) => void, timer: number}>} */
  #pending = new Map();
  /** @type {Map<string, Conversation>} */ #conversations = new Map();
  #requests = 0;
  #attempts = 0;
  #closed = false;

  /**
   * @param {object} [options]
   * @param {string} [options.url]     WebSocket address; default: this page's host, path /ws
   * @param {string} [options.rest]    REST root; default: this page's origin
   * @param {string} [options.apiKey]  needed where the gateway runs with API_KEYS
   * @param {string} [options.browser] the name routes ring, `target = { browser = "NAME" }`
   */
  constructor({ url, rest, apiKey, browser } = {}) {
    super();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.url = url ?? `${scheme}://${location.host}/ws`;
    this.rest = rest ?? location.origin;
    this.apiKey = apiKey ?? "";
    this.browser = browser ?? "";
  }

  /** Open the socket and keep it open; resolves once the gateway accepts requests. @returns {Promise<void>} */
  async connect() {
    this.#closed = false;
    await this.#open();
  }

  /** Leave every conversation and stay away. */
  close() {
    this.#closed = true;
    for (const conversation of this.#conversations.values()) conversation.release();
    this.#conversations.clear();
    this.#socket?.close(1000);
  }

  async #open() {
    const socket = new WebSocket(this.url);
    this.#socket = socket;
    socket.addEventListener("message", (event) => this.#receive(event));
    socket.addEventListener("close", () => this.#lost(socket));
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve, { once: true });
      socket.addEventListener("close", () => reject(new GatewayError("unreachable", "the gateway does not answer")), { once: true });
    });
    await this.#introduce(socket);
    this.#attempts = 0;
    this.#emit("connection", { open: true });
  }

  /** Say who we are. A socket that cannot is closed: `#lost` tries again, but not with a key that is wrong. @param {WebSocket} socket */
  async #introduce(socket) {
    try {
      if (this.apiKey) await this.request({ type: "authenticate", api_key: this.apiKey });
      if (this.browser) await this.request({ type: "register", browser: this.browser });
    } catch (error) {
      if (error instanceof GatewayError && error.code === "unauthorized") {
        this.#closed = true;
        this.#emit("refused", { message: error.message });
      }
      socket.close(1000);
      throw error;
    }
  }

  /** @param {WebSocket} socket */
  #lost(socket) {
    if (socket !== this.#socket) return;
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new GatewayError("disconnected", "the connection to the gateway was lost"));
    }
    this.#pending.clear();
    // For the gateway a browser whose socket is gone has left its calls.
    for (const conversation of this.#conversations.values()) conversation.release();
    this.#emit("connection", { open: false });
    if (this.#closed) return;
    const delay = RECONNECT_DELAYS[Math.min(this.#attempts++, RECONNECT_DELAYS.length - 1)] ?? 10_000;
    setTimeout(() => this.#closed || this.#open().catch(() => undefined), delay * (0.5 + Math.random()));
  }

  /** @param {MessageEvent} event */
  #receive(event) {
    /** @type {Frame} */ const frame = JSON.parse(event.data);
    const waiting = frame.request_id === undefined ? undefined : this.#pending.get(frame.request_id);
    if (waiting && frame.request_id !== undefined) {
      this.#pending.delete(frame.request_id);
      clearTimeout(waiting.timer);
      if (frame.type === "error") waiting.reject(new GatewayError(frame.code, frame.message));
      else waiting.resolve(frame);
      return;
    }
    this.#conversations.get(frame.call_id ?? frame.call?.id)?.receive(frame);
    this.#emit(frame.type, frame);
  }

  /** @param {string} type @param {object} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Send a frame that expects no reply. @param {Frame} frame */
  send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  /** Send a frame and wait for its reply. @param {Frame} frame @returns {Promise<Frame>} */
  request(frame) {
    const id = String(++this.#requests);
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) {
        reject(new GatewayError("disconnected", "there is no connection to the gateway"));
        return;
      }
      const timer = window.setTimeout(() => {
        this.#pending.delete(id);
        reject(new GatewayError("timeout", `the gateway did not answer ${frame.type} in time`));
      }, REQUEST_TIMEOUT);
      this.#pending.set(id, { resolve, reject, timer });
      this.send({ ...frame, request_id: id });
    });
  }

  /**
   * A REST call with the API key, its problem+json turned into a GatewayError.
   * @param {string} method @param {string} path @param {object} [body] @returns {Promise<any>}
   */
  async fetch(method, path, body) {
    /** @type {Record<string, string>} */ const headers = {};
    if (body) headers["content-type"] = "application/json";
    if (this.apiKey) headers["authorization"] = `Bearer ${this.apiKey}`;
    const response = await fetch(this.rest + path, { method, headers, body: body ? JSON.stringify(body) : undefined });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new GatewayError(answer.code ?? "http", answer.detail ?? answer.title ?? response.statusText);
    return answer;
  }

  /** Dial out. @param {{to: string, from?: string, trunk?: string}} request @returns {Promise<Call>} */
  dial(request) {
    return this.fetch("POST", "/api/v1/calls", request);
  }

  /** End a call for everyone in it. @param {string} callId @returns {Promise<Call>} */
  end(callId) {
    return this.fetch("POST", `/api/v1/calls/${callId}/end`, {});
  }

  /** Do not take a call that rings here: it rings on elsewhere, or is refused if nobody else is rung. @param {string} callId */
  async decline(callId) {
    await this.request({ type: "leave-call", call_id: callId });
  }

  /**
   * Join a call with the microphone; the first to join a ringing call answers it.
   * @param {string} callId @param {{token?: string, audio?: MediaTrackConstraints, microphone?: MediaStream}} [options]
   *   `microphone`: one that is open already; it is the conversation's from here on
   * @returns {Promise<Conversation>}
   */
  async join(callId, { token, audio, microphone } = {}) {
    const conversation = new Conversation(this, callId);
    this.#conversations.set(callId, conversation);
    conversation.addEventListener("released", () => this.#conversations.delete(callId), { once: true });
    try {
      await conversation.start(token, microphone ?? openMicrophone(audio));
    } catch (error) {
      conversation.abandon();
      throw error;
    }
    return conversation;
  }
}

/** This browser's part in one call: a peer connection, a microphone and what is heard. */
export class Conversation extends EventTarget {
  /** @type {RTCPeerConnection | null} */ #peer = null;
  /** @type {RTCRtpSender | null} */ #sender = null;
  #released = false;
  #joined = false;
  /** @type {MediaStream | null} */ microphone = null;
  remote = new MediaStream();

  /** @param {Gateway} gateway @param {string} callId */
  constructor(gateway, callId) {
    super();
    this.gateway = gateway;
    this.callId = callId;
  }

  /** @param {string | undefined} token @param {MediaStream | Promise<MediaStream>} microphone */
  async start(token, microphone) {
    this.microphone = await microphone;
    this.#goOn();
    const joined = await this.gateway.request({ type: "join-call", call_id: this.callId, ...(token ? { token } : {}) });
    this.#joined = true;
    this.#goOn();
    const peer = new RTCPeerConnection({ iceServers: joined["ice_servers"] ?? [], bundlePolicy: "max-bundle" });
    this.#peer = peer;
    const track = this.microphone.getAudioTracks()[0];
    if (!track) throw new GatewayError("no_microphone", "there is no microphone");
    this.#sender = peer.addTrack(track, this.microphone);
    peer.addEventListener("track", (event) => this.remote.addTrack(event.track));
    peer.addEventListener("icecandidate", ({ candidate }) =>
      this.gateway.send({ type: "ice-candidate", call_id: this.callId, candidate: candidate?.toJSON() ?? null }));
    peer.addEventListener("connectionstatechange", () =>
      this.dispatchEvent(new CustomEvent("state", { detail: peer.connectionState })));
    await this.#negotiate(peer);
  }

  /** @param {RTCPeerConnection} peer */
  async #negotiate(peer) {
    await peer.setLocalDescription();
    const answer = await this.gateway.request({
      type: "offer", call_id: this.callId, sdp: peer.localDescription?.sdp });
    await peer.setRemoteDescription({ type: "answer", sdp: answer["sdp"] });
  }

  /** @param {Frame} frame */
  receive(frame) {
    if (frame.type === "call-ended") this.release();
    if (frame.type === "ice-candidate" && frame["candidate"]) this.#peer?.addIceCandidate(frame["candidate"]).catch(() => undefined);
    if (frame.type === "offer") this.#answer(frame["sdp"]).catch((error) => console.error(error));
  }

  /** @param {string} sdp */
  async #answer(sdp) {
    const peer = this.#peer;
    if (!peer) return;
    await peer.setRemoteDescription({ type: "offer", sdp });
    await peer.setLocalDescription();
    this.gateway.send({ type: "answer", call_id: this.callId, sdp: peer.localDescription?.sdp });
  }

  /** @param {boolean} muted */
  mute(muted) {
    for (const track of this.microphone?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  /** Send digits in the media (RFC 4733), or through the gateway where the browser cannot. @param {string} digits */
  sendDigits(digits) {
    const dtmf = this.#sender?.dtmf;
    if (dtmf?.canInsertDTMF) dtmf.insertDTMF(dtmf.toneBuffer + digits, 100, 70);
    else this.gateway.send({ type: "dtmf", call_id: this.callId, digits });
  }

  /** @returns {Promise<RTCStatsReport | undefined>} */
  async stats() {
    return this.#peer?.getStats();
  }

  /** Leave the call; it goes on for the others. */
  async leave() {
    try {
      await this.gateway.request({ type: "leave-call", call_id: this.callId });
    } finally {
      this.release();
    }
  }

  /** The call may have ended while we waited: then the microphone must not stay open. */
  #goOn() {
    if (this.#released) throw new GatewayError("call_over", "the call is over");
  }

  /** After a start that failed: nobody may wait for a browser that joined and says nothing. */
  abandon() {
    if (this.#joined && !this.#released) this.gateway.send({ type: "leave-call", call_id: this.callId });
    this.release();
  }

  /** Give the microphone and the connection back. */
  release() {
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
    if (this.#released) return;
    this.#released = true;
    this.#peer?.close();
    this.dispatchEvent(new CustomEvent("released"));
  }
}

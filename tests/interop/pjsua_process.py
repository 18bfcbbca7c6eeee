"""The process behind `pjsua_peer`: reads commands as JSON lines, writes replies and events the same way.

pjsua2 runs without threads of its own for SIP: all of it happens inside `libHandleEvents`.
"""

import json
import os
import select
import sys
from collections.abc import Callable
from typing import Any

import pjsua2 as pj

Json = dict[str, Any]
MODES = {"off": 0, "supported": 1, "require": 2}
TRANSPORTS = {
    "udp": pj.PJSIP_TRANSPORT_UDP,
    "tcp": pj.PJSIP_TRANSPORT_TCP,
    "tls": pj.PJSIP_TRANSPORT_TLS,
}
TONE = 440
OUT = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # the library writes to the standard output before it can be told not to


def tell(message: Json) -> None:
    """One line out."""
    OUT.write(json.dumps(message) + "\n")


class Call(pj.Call):
    """A call, which tells what becomes of it."""

    def __init__(self, owner: "Softphone", number: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(owner.account, number)
        self._owner = owner

    def _tell(self, type_: str, **values: Any) -> None:
        tell({"type": type_, "call": self.getId(), **values})

    def onCallState(self, prm: Any) -> None:
        info = self.getInfo()
        self._tell("state", state=info.stateText, code=info.lastStatusCode, reason=info.lastReason)

    def onCallMediaState(self, prm: Any) -> None:
        info = self.getInfo()  # its parts live no longer than itself
        for index, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO:
                self._tell("media", status=MEDIA.get(media.status, str(media.status)))
                if media.status in (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD):
                    self._owner.connect(self.getAudioMedia(index))

    def onDtmfDigit(self, prm: Any) -> None:
        self._tell("digit", digit=prm.digit)

    def onCallTransferRequest(self, prm: Any) -> None:
        self._tell("transfer", to=prm.dstUri)
        # pjsua makes the new call itself and has to be told which object stands for it.
        prm.newCall = self._owner.adopt(Call(self._owner))

    def onCallTransferStatus(self, prm: Any) -> None:
        self._tell("transferred", code=prm.statusCode, final=prm.finalNotify)


MEDIA = {
    pj.PJSUA_CALL_MEDIA_NONE: "none",
    pj.PJSUA_CALL_MEDIA_ACTIVE: "active",
    pj.PJSUA_CALL_MEDIA_LOCAL_HOLD: "local-hold",
    pj.PJSUA_CALL_MEDIA_REMOTE_HOLD: "remote-hold",
    pj.PJSUA_CALL_MEDIA_ERROR: "error",
}


class Account(pj.Account):
    """The one identity."""

    def __init__(self, owner: "Softphone") -> None:
        super().__init__()
        self._owner = owner

    def onRegState(self, prm: Any) -> None:
        tell({"type": "registered", "code": prm.code, "active": self.getInfo().regIsActive})

    def onIncomingCall(self, prm: Any) -> None:
        self._owner.incoming(prm.callId)


class Softphone:
    """The library, one account, and its calls."""

    def __init__(self, options: Json) -> None:
        self._options = options
        self._host = str(options.get("host", "127.0.0.1"))
        self._calls: list[Call] = []
        self._endpoint = pj.Endpoint()
        self._start()
        transport = self._endpoint.transportCreate(self._kind(), self._transport_config())
        self.port = int(self._endpoint.transportGetInfo(transport).localName.rpartition(":")[2])
        self._prepare_audio()
        self.account = Account(self)
        self.account.create(self._account_config(transport))

    def _kind(self) -> int:
        return int(TRANSPORTS[self._options.get("transport", "udp")])

    def _start(self) -> None:
        self._endpoint.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.userAgent = "pjsua2"
        config.logConfig.filename = self._options["log"]
        config.logConfig.level = 5
        config.logConfig.consoleLevel = 0
        config.medConfig.noVad = True
        config.medConfig.ecTailLen = 0
        self._endpoint.libInit(config)
        self._endpoint.libStart()

    def _transport_config(self) -> pj.TransportConfig:
        config = pj.TransportConfig()
        config.port = self._options.get("port", 0)
        config.boundAddress = self._host
        tls, options = config.tlsConfig, self._options
        tls.certFile = options.get("certificate", "")
        tls.privKeyFile = options.get("key", "")
        tls.CaListFile = options.get("authority", "")
        tls.verifyServer = options.get("verify", "authority" in options)
        tls.verifyClient = tls.requireClientCert = options.get("require_certificate", False)
        return config

    def _prepare_audio(self) -> None:
        self._endpoint.audDevManager().setNullDev()
        codecs = self._options.get("codecs", ["PCMU/8000", "PCMA/8000"])
        for info in self._endpoint.codecEnum2():
            name = "/".join(info.codecId.split("/")[:2])
            place = codecs.index(name) if name in codecs else None
            self._endpoint.codecSetPriority(info.codecId, 0 if place is None else 255 - place)
        tone = pj.ToneDesc()
        tone.freq1, tone.on_msec, tone.off_msec = TONE, 1000, 0
        tones = pj.ToneDescVector()
        tones.append(tone)
        self._tone = pj.ToneGenerator()
        self._tone.createToneGenerator()
        self._tone.play(tones, True)
        self._recorder = None
        if "record" in self._options:
            self._recorder = pj.AudioMediaRecorder()
            self._recorder.createRecorder(self._options["record"])

    def _account_config(self, transport: int) -> pj.AccountConfig:
        options, config = self._options, pj.AccountConfig()
        suffix = {"udp": "", "tcp": ";transport=tcp", "tls": ";transport=tls"}
        kind = options.get("transport", "udp")
        host = options.get("domain", f"{self._host}:{self.port}")
        config.idUri = f"<sip:{options.get('user', 'phone')}@{host}>"
        if "registrar" in options:
            config.regConfig.registrarUri = options["registrar"]
            config.regConfig.timeoutSec = options.get("register_expires", 300)
            config.regConfig.retryIntervalSec = 1
            config.sipConfig.contactParams = options.get("contact", "")
        if "proxy" in options:
            config.sipConfig.proxies.append(options["proxy"])
        elif suffix[kind] and "registrar" not in options:
            # Without a route pjsua takes the transport from each URI.
            config.sipConfig.transportId = transport if kind == "udp" else pj.PJSUA_INVALID_ID
        if "username" in options:
            config.sipConfig.authCreds.append(_credentials(options))
        config.callConfig.prackUse = MODES[options.get("reliable", "off")]
        config.callConfig.timerUse = MODES[options.get("timers", "supported")]
        config.callConfig.timerMinSESec = options.get("min_se", 90)
        config.callConfig.timerSessExpiresSec = options.get("session_expires", 1800)
        config.natConfig.contactRewriteUse = 0
        return config

    def connect(self, audio: pj.AudioMedia) -> None:
        """Tone out, recording in."""
        self._tone.startTransmit(audio)
        if self._recorder is not None:
            audio.startTransmit(self._recorder)

    def adopt(self, call: Call) -> Call:
        """Keep a call for good: the library only borrows it, and may be inside its callback when it ends."""
        self._calls.append(call)
        return call

    def incoming(self, number: int) -> None:
        """Somebody calls."""
        call = self.adopt(Call(self, number))
        info = call.getInfo()
        tell({"type": "incoming", "call": number, "from": info.remoteUri, "to": info.localUri})
        if status := self._options.get("auto"):
            call.answer(_status(status))

    def _call(self, request: Json, name: str = "call") -> Call:
        wanted = request[name]
        for call in reversed(self._calls):
            if call.getId() == wanted:
                return call
        raise KeyError(f"no call {wanted}")

    def do_call(self, request: Json) -> int:
        call = self.adopt(Call(self))
        prm = pj.CallOpParam(True)
        for name, value in request["headers"].items():
            header = pj.SipHeader()
            header.hName, header.hValue = name, value
            prm.txOption.headers.append(header)
        call.makeCall(request["uri"], prm)
        return int(call.getId())

    def do_answer(self, request: Json) -> None:
        self._call(request).answer(_status(request["status"]))

    def do_hang_up(self, request: Json) -> None:
        self._call(request).hangup(pj.CallOpParam())

    def do_hold(self, request: Json) -> None:
        self._call(request).setHold(pj.CallOpParam(True))

    def do_resume(self, request: Json) -> None:
        prm = pj.CallOpParam(True)
        prm.opt.flag = pj.PJSUA_CALL_UNHOLD
        call = self._call(request)
        (call.update if request["update"] else call.reinvite)(prm)

    def do_transfer(self, request: Json) -> None:
        self._call(request).xfer(request["to"], pj.CallOpParam(True))

    def do_attended_transfer(self, request: Json) -> None:
        self._call(request).xferReplaces(self._call(request, "other"), pj.CallOpParam(True))

    def do_digits(self, request: Json) -> None:
        prm = pj.CallSendDtmfParam()
        prm.digits = request["digits"]
        prm.method = pj.PJSUA_DTMF_METHOD_SIP_INFO if request["info"] else pj.PJSUA_DTMF_METHOD_RFC2833
        self._call(request).sendDtmf(prm)

    def do_register(self, request: Json) -> None:
        self.account.setRegistration(request["renew"])

    def carry_out(self, line: bytes) -> None:
        """One command."""
        request = json.loads(line)
        action: Callable[[Json], Any] = getattr(self, f"do_{request['do']}")
        try:
            tell({"number": request["number"], "result": action(request)})
        except (pj.Error, KeyError) as error:
            words = error.info() if isinstance(error, pj.Error) else str(error)
            tell({"number": request["number"], "error": words})

    def run(self) -> None:
        """Until the input ends."""
        os.set_blocking(0, False)
        waiting = b""
        while True:
            self._endpoint.libHandleEvents(10)
            if not select.select([0], [], [], 0)[0]:
                continue
            data = os.read(0, 65536)
            if not data:
                return
            *lines, waiting = (waiting + data).split(b"\n")
            for line in lines:
                self.carry_out(line)

    def close(self) -> None:
        """Hang up, and take the library down before its objects."""
        self._endpoint.hangupAllCalls()
        for _ in range(20):
            self._endpoint.libHandleEvents(10)
        self._calls.clear()
        self._endpoint.libDestroy()


def _credentials(options: Json) -> pj.AuthCredInfo:
    hashed = "hashed_password" in options
    kind = pj.PJSIP_CRED_DATA_DIGEST if hashed else 0
    secret = options["hashed_password" if hashed else "password"]
    info = pj.AuthCredInfo("digest", options.get("realm", "*"), options["username"], kind, secret)
    if hashed:
        info.algoType = pj.PJSIP_AUTH_ALGORITHM_MD5
    return info


def _status(code: int) -> pj.CallOpParam:
    prm = pj.CallOpParam()
    prm.statusCode = code
    return prm


if __name__ == "__main__":
    softphone = Softphone(json.loads(sys.argv[1]))
    tell({"type": "ready", "port": softphone.port})
    softphone.run()
    softphone.close()
    os._exit(0)  # the library's destructors, run by the interpreter's end, come too late for it

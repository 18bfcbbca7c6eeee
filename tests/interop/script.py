"""SIPp scenarios that are put together: one side of a call, step by step, and what each message must say.

Steps that receive take regular expressions that the message must have (`has`) and must not have (`lacks`);
SIPp fails where they do not hold.
"""

from collections.abc import Sequence
from typing import Literal

Patterns = Sequence[str]

_CALLER = '"Anna" <sip:+74950001122@[local_ip]:[local_port]>;tag=[pid]SIPpTag[call_number]'
_CALLEE = "<sip:bob@[local_ip]:[local_port]>;tag=[pid]SIPpTag[call_number]"
_VIA = "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport"
_COPIED = "[last_Via:]\n[last_Record-Route:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]"
_PARTS = {"via": "Via", "from": "From", "to": "To", "cseq": "CSeq"}
_MINE = ";tag=[pid]SIPpTag[call_number]"
_NAMES = {0: "PCMU/8000", 8: "PCMA/8000", 18: "G729/8000", 101: "telephone-event/8000"}


def sdp(port: int, *formats: int, direction: str = "", address: str = "[local_ip]") -> str:
    """A session description; without formats PCMU and telephone-event."""
    numbers = formats or (0, 101)
    lines = [
        "v=0",
        "o=peer 53655765 2353687637 IN IP4 [local_ip]",
        "s=-",
        f"c=IN IP4 {address}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {' '.join(map(str, numbers))}",
        *(f"a=rtpmap:{number} {_NAMES[number]}" for number in numbers),
        *([f"a={direction}"] if direction else []),
    ]
    return "\n".join(lines) + "\n"


class Script:
    """The steps of one side."""

    def __init__(self, side: Literal["caller", "callee"], *, transactions: bool = False) -> None:
        """With `transactions` a response counts for the request whose branch it has, else for the last."""
        self.contact = "sip:peer@[local_ip]:[local_port]"
        self._side = side
        self._transactions = transactions
        self._steps: list[str] = []
        self._variables = ["caller"] if side == "callee" else []
        self._cseq = 0
        self._untagged = False
        self._invite, self._refused = (0, 0), False

    @property
    def text(self) -> str:
        """The scenario as SIPp reads it."""
        used = ",".join(self._variables)
        reference = f'  <Reference variables="{used}"/>\n' if used else ""
        return (
            '<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="script">\n'
            + "".join(self._steps)
            + reference
            + "</scenario>\n"
        )

    def at(self, contact: str) -> "Script":
        """From now on the other side shall send its requests to this URI."""
        self.contact = contact
        return self

    def ask(self, method: str, body: str = "", *, headers: str = "") -> "Script":
        """Send a request of the dialog, or the INVITE that makes it; CANCEL, and the ACK of a refusal, belong
        to the INVITE sent last (RFC 3261 9.1, 17.1.1.3)."""
        self._cseq += method not in ("ACK", "CANCEL")
        if method == "INVITE":
            self._invite, self._refused = (self._cseq, len(self._steps)), False
        same = method == "CANCEL" or (method == "ACK" and self._refused)
        number = self._invite[0] if method in ("ACK", "CANCEL") else self._cseq
        opening = self._side == "caller" and number == 1 and (same or method == "INVITE")
        uri = "sip:[service]@[remote_ip]:[remote_port]" if opening else "[next_url]"
        route = "" if opening else "[routes]\n"
        via = _VIA.replace("[branch]", f"[branch-{len(self._steps) - self._invite[1]}]") if same else _VIA
        ends = f"From: {_CALLEE}\nTo: [$caller]"
        if self._side == "caller":
            known = "" if opening and method != "ACK" else "[peer_tag_param]"
            ends = f"From: {_CALLER}\nTo: <sip:[service]@[remote_ip]:[remote_port]>{known}"
        message = (
            f"{method} {uri} SIP/2.0\n{via}\n{route}Max-Forwards: 70\n{ends}\nCall-ID: [call_id]\n"
            f"CSeq: {number} {method}\nContact: <{self.contact}>\n"
            f"Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE\n{_headed(headers, body)}"
        )
        retransmit = "" if method == "ACK" else ' retrans="500"'
        return self._send(message, retransmit + self._transaction("ack" if method == "ACK" else "start"))

    def notify(self, headers: str, body: str) -> "Script":
        """Tell of something in the dialog; the headers name the body's type."""
        return self.ask("NOTIFY", headers=headers + "[body]" + body)

    def answer(
        self, status: str, body: str = "", *, headers: str = "", to: str = "", tag: str = _MINE
    ) -> "Script":
        """Send a response to the request received last, or `to` the one kept under this name; a callee's
        responses get this `tag` where the request has none."""
        copied = _COPIED
        if to:
            kept = [f"{header}: [${to}_{part}]" for part, header in _PARTS.items()]
            copied = "\n".join([*kept, "Call-ID: [call_id]"]).replace("_to]", "_to]{tag}")
        tag = tag if to == "call" or (self._untagged and not to) else ""
        contact = f"Contact: <{self.contact}>\n"
        message = f"SIP/2.0 {status}\n{copied.replace('{tag}', tag)}\n{contact}{headers}{_content(body)}"
        return self._send(message, "")

    def invited(self, *, has: Patterns = (), lacks: Patterns = ()) -> "Script":
        """Receive the call, and keep it as `call`."""
        self._untagged = True
        keep = '<ereg regexp=".*" search_in="hdr" header="From:" assign_to="caller"/>' + self._keep("call")
        return self._receive('request="INVITE" rrs="true"', has, lacks, keep)

    def asked(self, method: str, *, has: Patterns = (), lacks: Patterns = (), keep: str = "") -> "Script":
        """Receive a request in the dialog, and `keep` it under a name for a later answer."""
        self._untagged = method == "CANCEL"
        return self._receive(f'request="{method}"', has, lacks, self._keep(keep) if keep else "")

    def told(
        self,
        status: int,
        *,
        has: Patterns = (),
        lacks: Patterns = (),
        optional: bool = False,
        number: str = "",
    ) -> "Script":
        """Receive a response; the value of the header `number` is kept under that name, in lower case."""
        self._refused = self._refused or status >= 300
        keep = ""
        if number:
            self._variables.append(number.lower())
            keep = f'<ereg regexp="[0-9]+" search_in="hdr" header="{number}:" assign_to="{number.lower()}"/>'
        extra = ' optional="true"' if optional else ' rrs="true"'
        return self._receive(f'response="{status}"{extra}{self._transaction("response")}', has, lacks, keep)

    def pause(self, milliseconds: int) -> "Script":
        """Wait."""
        self._steps.append(f'  <pause milliseconds="{milliseconds}"/>\n')
        return self

    def called(self, body: str, *, ringing: int | None = 180) -> "Script":
        """The callee's way into a call: ring, answer, be acknowledged."""
        self.invited()
        if ringing:
            self.answer(f"{ringing} Ringing")
        return self.pause(100).answer("200 OK", body).asked("ACK")

    def calls(self, body: str) -> "Script":
        """The caller's way into a call, whatever rings."""
        self.ask("INVITE", body).told(100, optional=True).told(180, optional=True)
        return self.told(183, optional=True).told(200).ask("ACK")

    def renews(self, body: str, *, has: Patterns = (), lacks: Patterns = ()) -> "Script":
        """Ask for another session and get it."""
        return self.ask("INVITE", body).told(100, optional=True).told(200, has=has, lacks=lacks).ask("ACK")

    def renewed(self, body: str, *, has: Patterns = (), lacks: Patterns = ()) -> "Script":
        """Be asked for another session and agree."""
        return self.asked("INVITE", has=has, lacks=lacks).answer("200 OK", body).asked("ACK")

    def leaves(self) -> "Script":
        """Hang up."""
        return self.ask("BYE").told(200)

    def left(self) -> "Script":
        """Be hung up on."""
        return self.asked("BYE").answer("200 OK")

    def _keep(self, name: str) -> str:
        self._variables += [f"{name}_{part}" for part in _PARTS]
        return "".join(
            f'<ereg regexp=".*" search_in="hdr" header="{header}:" assign_to="{name}_{part}"/>'
            for part, header in _PARTS.items()
        )

    def _transaction(self, part: str) -> str:
        return f' {part}_txn="request{self._cseq}"' if self._transactions else ""

    def _send(self, message: str, attributes: str) -> "Script":
        self._steps.append(f"  <send{attributes}>\n<![CDATA[\n{message}\n]]>\n  </send>\n")
        return self

    def _receive(self, what: str, has: Patterns, lacks: Patterns, keep: str = "") -> "Script":
        checks = [self._check(pattern, "check_it") for pattern in has]
        checks += [self._check(pattern, "check_it_inverse") for pattern in lacks]
        actions = "".join([keep, *checks])
        inner = f"\n    <action>{actions}</action>\n  " if actions else ""
        self._steps.append(f"  <recv {what}>{inner}</recv>\n")
        return self

    def _check(self, pattern: str, kind: str) -> str:
        name = f"check{len(self._variables)}"
        self._variables.append(name)
        quoted = pattern.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        return f'<ereg regexp="{quoted}" search_in="msg" {kind}="true" assign_to="{name}"/>'


def _headed(headers: str, body: str) -> str:
    """Headers and a body: a session description, or what stands behind `[body]`."""
    own, mark, other = headers.partition("[body]")
    return f"{own}Content-Length: [len]\n\n{other}" if mark else f"{headers}{_content(body)}"


def _content(body: str) -> str:
    kind = "Content-Type: application/sdp\n" if body else ""
    return f"{kind}Content-Length: [len]\n\n{body}"

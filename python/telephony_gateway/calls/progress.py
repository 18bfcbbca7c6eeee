"""What the engine says about the legs of a running call, and who is told."""

from typing import assert_never

from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.endings import ending_of
from telephony_gateway.calls.events import (
    Answered,
    Confirmed,
    Connected,
    Digit,
    Ended,
    Event,
    Held,
    Incoming,
    Refer,
    ReferAnswered,
    Referral,
    Ringing,
)
from telephony_gateway.calls.forwarding import Forwarding
from telephony_gateway.calls.hunting import Hunting
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs, anchor_side
from telephony_gateway.calls.live import LiveCall
from telephony_gateway.calls.outbound import Outbound
from telephony_gateway.calls.participants import Participants
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.seeking import Seeking
from telephony_gateway.calls.transfers import Transfers


class Progress:
    """Hands each event of a leg to the room it concerns."""

    def __init__(
        self,
        *,
        journal: Journal,
        legs: Legs,
        closing: Closing,
        outbound: Outbound,
        forwarding: Forwarding,
        participants: Participants,
        hunting: Hunting,
        transfers: Transfers,
        seeking: Seeking,
        policy: Policy,
    ) -> None:
        self._journal = journal
        self._legs = legs
        self._closing = closing
        self._outbound = outbound
        self._forwarding = forwarding
        self._participants = participants
        self._hunting = hunting
        self._transfers = transfers
        self._seeking = seeking
        self._policy = policy

    def handle(self, live: LiveCall, event: Event) -> None:
        """Take one event of one of the call's legs."""
        match event:
            case Ended():
                self._ended(live, event)
            case Connected():
                self._legs.connected(live, event.leg)
            case _ if live.call.over:
                pass  # a leg's news crossed the end of its call: it is being hung up
            case Ringing():
                self._ringing(live, event)
            case Answered():
                self._answered(live, event)
            case Digit():
                self._digit(live, event)
            case Held():
                self._held(live, event)
            case Refer():
                self._transfers.requested(live, event)
            case ReferAnswered():
                self._transfers.answered(live, event)
            case Referral():
                self._transfers.told(live, event)
            case Confirmed() | Incoming():
                pass
            case _:
                assert_never(event)

    def _ringing(self, live: LiveCall, event: Ringing) -> None:
        if live.transfer is not None and self._seeking.ringing(live, event):
            return
        if live.hunt is not None and not self._hunting.leads(live, event.leg):
            self._legs.update(live, event.leg, "ringing")
            return
        if event.leg == live.far:
            self._forwarding.ringing(live, event)
        elif event.leg == live.anchor:
            self._outbound.ringing(live, event)

    def _answered(self, live: LiveCall, event: Answered) -> None:
        if live.transfer is not None and self._seeking.answered(live, event):
            return
        if live.hunt is not None and not self._hunting.won(live, event.leg):
            return
        if event.leg == live.far:
            self._forwarding.answered(live, event)
        elif event.leg == live.anchor:
            self._outbound.answered(live, event)

    def _digit(self, live: LiveCall, event: Digit) -> None:
        leg = live.legs.get(event.leg)
        if leg is None or live.call.status == "queued" or live.notes >= self._policy.max_notes:
            return
        live.notes += 1
        data = {"leg_id": str(leg.id), "digit": event.digit, "duration": event.duration}
        self._journal.apply(live, "digit", data)

    def _held(self, live: LiveCall, event: Held) -> None:
        leg = live.legs.get(event.leg)
        if leg is None or leg.held == event.held or live.call.status != "in-progress":
            return
        self._legs.hold(live, event.leg, held=event.held)
        if live.notes >= self._policy.max_notes:
            return
        live.notes += 1
        self._journal.apply(
            live, "hold" if event.held else "resume", {"leg_id": str(leg.id), "side": leg.side}
        )

    def _ended(self, live: LiveCall, event: Ended) -> None:
        leg = self._legs.ended(live, event.leg, event.stats)
        if live.call.over:
            self._closing.settle(live)
        elif live.transfer is not None and self._transfers.ended(
            live, event, leg.side if leg is not None else "callee"
        ):
            pass  # the call goes on while somebody is called for the empty place
        elif (live.hunt is not None or event.contacts) and self._hunting.failed(live, event):
            pass  # another place is tried, or the call has ended with the best answer of all
        elif event.leg == live.anchor:
            ending = ending_of(event, anchor_side(live), answered=live.call.answered)
            self._closing.finish(live, ending, event.age, passed_on=event.passed_on)
        elif event.leg == live.far:
            side = leg.side if leg is not None else "callee"
            ending = ending_of(event, side, answered=live.call.answered)
            self._closing.finish(live, ending, event.age, passed_on=event.passed_on)
        else:
            self._participants.lost(live, event)

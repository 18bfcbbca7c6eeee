"""The browsers that are connected, and which of them ring for a call."""

from collections.abc import Iterable

from telephony_gateway.calls.frames import IncomingCall
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.live import LiveCall, LiveCalls
from telephony_gateway.calls.ports import Browser
from telephony_gateway.calls.routing import EVERY_BROWSER


class Browsers:
    """Connected browsers by id. Only an authenticated one hears of calls unasked."""

    def __init__(self, *, journal: Journal, calls: LiveCalls) -> None:
        self._journal = journal
        self._calls = calls
        self._connected: dict[str, Browser] = {}

    def connect(self, browser: Browser) -> None:
        """It is there, or it registered or authenticated anew: it rings for what rings already."""
        self._connected[browser.id] = browser
        for live in self._calls.all_running():
            if live.call.status == "ringing" and live.participant is None:
                self._ring(live, browser)

    def disconnect(self, browser: Browser) -> Iterable[LiveCall]:
        """It is gone and watches nothing any more; returns what it watched."""
        self._connected.pop(browser.id, None)
        return self._calls.unwatch(browser)

    def __contains__(self, browser: Browser) -> bool:
        return browser.id in self._connected

    def any_for(self, live: LiveCall) -> bool:
        """Whether anyone would ring for the call."""
        return any(_rings(live, browser) for browser in self._connected.values())

    def announce(self, live: LiveCall) -> None:
        """Ring every browser that the call's route means."""
        for browser in self._connected.values():
            self._ring(live, browser)

    def decline(self, live: LiveCall, browser: Browser) -> bool:
        """It does not want this ringing call; tells whether it was rung for it at all."""
        rung = live.call.status == "ringing" and browser.id in live.watchers and _rings(live, browser)
        if rung:
            self._calls.silence(live, browser)
        return rung

    def _ring(self, live: LiveCall, browser: Browser) -> None:
        if _rings(live, browser) and browser.id not in live.watchers:
            self._calls.watch(live, browser)
            self._journal.tell([browser], IncomingCall(call=live.call))


def _rings(live: LiveCall, browser: Browser) -> bool:
    wanted = live.target.browser if live.target else None
    return (
        wanted is not None
        and browser.authenticated
        and browser.id not in live.declined
        and (wanted == EVERY_BROWSER or wanted in browser.names)
    )

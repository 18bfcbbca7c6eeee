"""Telephony Gateway: SIP carriers on one side, browsers and voice bots on the other."""

__version__ = "0.1.0"

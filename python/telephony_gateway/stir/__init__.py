"""STIR/SHAKEN: who vouches for a caller's number, in both directions (RFC 8224, 8225, 8226, 8588).

`Signer` writes the Identity header of a call out; `Verifier` judges that of a call in. Keys are local files,
certificates of others come from allowed hosts only, and nothing here is waited for before a call rings unless
its trunk says `verify = "require"`. The libraries are loaded when a trunk first asks for one of the two.
"""

from telephony_gateway.stir.service import Stir

__all__ = ["Stir"]

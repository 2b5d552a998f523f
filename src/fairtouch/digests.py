"""Keys: what a store sees instead of a customer or an address.

HMAC-SHA-256 (RFC 2104) of namespace and value, with the app's secret when there is one, cut to 16 bytes: two of 10^12
customers share a key with a probability of 10^-15. Without a secret a guessed e-mail address can be confirmed by
whoever reads the store; with one it cannot, as long as the secret is kept elsewhere.
"""

import hashlib
import hmac
from functools import lru_cache
from typing import Final

from fairtouch.addresses import normalize
from fairtouch.errors import TouchError

_LENGTH: Final = 16
_REMEMBERED: Final = 16_384  # customers whose digest costs a look-up instead of two hashes


class Digests:
    """Digests for one namespace and secret. `customer(customer)` is the key of a customer."""

    def __init__(self, namespace: str, secret: object) -> None:
        """`secret`: a text or bytes, or None. Raises TouchError for anything else, and for an empty one."""
        if secret is not None and (not isinstance(secret, str | bytes) or not secret):
            raise TouchError("secret must be a text or bytes that is not empty; leave it out to have none")
        key = secret.encode() if isinstance(secret, str) else secret
        scope = f"fairtouch:{namespace}".encode()
        self.namespace: Final = hashlib.sha256(scope).digest()[:_LENGTH]
        self._key = hmac.digest(key or b"", scope, hashlib.sha256)
        self.customer: Final = lru_cache(_REMEMBERED)(self._customer)

    def _digest(self, purpose: bytes, text: str) -> bytes:
        return hmac.digest(self._key, purpose + text.encode(), "sha256")[:_LENGTH]

    def _customer(self, customer: str) -> bytes:
        return self._digest(b"customer\0", customer)

    def address(self, address: str, channel: str) -> bytes:
        """The key of an address on a channel. Raises TouchError when the address cannot be normalised."""
        return self._digest(b"address\0", f"{channel}\0{normalize(address, channel)}")

    def deferral(self, customer: bytes, touch_id: str) -> bytes:
        """The key of a customer's deferred touch, by her own key."""
        return self._digest(b"deferral\0" + customer, touch_id)

    def queue(self, name: str) -> bytes:
        """The key of a queue of deferred touches."""
        return self._digest(b"queue\0", name)

    def fingerprint(self) -> bytes:
        """Tells whether two processes use the same namespace and secret, without telling either."""
        return self._digest(b"fingerprint\0", "")

"""Links that let a person out: signed tokens that work for ever and many times, and can do nothing but opt out.

Rule 1: a token names nobody. It holds the digests under which the store knows the customer, and her address where that
is to be suppressed too, and what is withdrawn. Rule 2: a token ends with its key alone; neither time nor use nor a new
policy ends it. Rule 3: whatever is passed as a token, it is redeemed or a TouchError, and then nothing was recorded.
Rule 4: both fronts differ by `await` only.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fairtouch.asking import as_touch
from fairtouch.bounds import TEXT_LENGTH_MAX, TOKEN_LENGTH_MAX
from fairtouch.consent import ConsentEvent, Scope
from fairtouch.errors import TouchError
from fairtouch.governor import Governor
from fairtouch.policy import Policy
from fairtouch.touch import Touch, check_text

if TYPE_CHECKING:
    from fairtouch.governor_async import AsyncGovernor

_VERSION: Final = 1
_KEY_LENGTH_MIN: Final = 16  # what a person makes up is shorter
_NOT_OURS: Final = (
    "token is no unsubscribe link of this governor: it was changed or cut, or made with another key, namespace or "
    "secret; keep every key that ever signed in old_keys (nothing was recorded)"
)


@dataclass(frozen=True, slots=True)
class Unsubscription:
    """What a token asks for: an opt-out of `customer` at `scope`, and the suppression of `address` unless it is None.

    Both are digests, as the store knows them.
    """

    customer: bytes = field(repr=False)
    scope: Scope
    address: bytes | None = field(default=None, repr=False)


def scope_of(policy: Policy, touch: Touch) -> Scope:
    """What the link in a message withdraws: its topic on its channel; without a topic, its category there.

    Raises TouchError for a touch of an essential category: who unsubscribes there would no longer get what she needs.
    """
    kind = policy.kind(touch)
    if kind.category in policy.essential:
        raise TouchError(
            f"category {kind.category!r} is essential, and a message of it carries no link that would end it; name "
            "what the link withdraws with make() (nothing was recorded)"
        )
    return Scope(None if kind.topic else kind.category, kind.channel, kind.topic)


class _Tokens:
    """What both fronts share: making tokens and reading them."""

    def __init__(
        self, governor: "Governor | AsyncGovernor", key: str | bytes, *, old_keys: Collection[str | bytes] = ()
    ) -> None:
        try:
            from itsdangerous import URLSafeSerializer
        except ImportError as error:
            raise ImportError(
                'itsdangerous is needed for unsubscribe links; install it with: pip install "fairtouch[unsubscribe]"'
            ) from error
        self._policy: Final = governor.policy
        self._digests: Final = governor.premises.digests
        self._serializer: Final = URLSafeSerializer(
            [*_listed(old_keys), _checked(key)],  # the last one signs
            salt=b"fairtouch.unsubscribe\0" + self._digests.fingerprint(),
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def make(
        self,
        customer: str,
        *,
        category: str | None = None,
        channel: str | None = None,
        topic: str | None = None,
        suppress: str | None = None,
    ) -> str:
        """A token that opts the customer out at this scope; what is left out is any, as in `consent.opt_out`.

        `suppress`: an address of hers that is to be suppressed on `channel` as well, transactional mail included. The
        token is made of letters, digits, "-", "_" and "."; it can stand in a path or a query. Raises TouchError.
        """
        check_text("customer", customer, TEXT_LENGTH_MAX)
        self._policy.check_scope(category, channel, topic)
        address = None
        if suppress is not None:
            if channel is None:
                raise TouchError("an address is suppressed on a channel: pass channel= as well; nothing was recorded")
            address = self._digests.address(suppress, channel)
        return self._sign(Unsubscription(self._digests.customer(customer), Scope(category, channel, topic), address))

    def for_touch(self, touch: Touch | str, **fields: Any) -> str:
        """The token for the link in a message: it withdraws the touch's topic on its channel, or its category there.

        Raises TouchError for a touch of an essential category.
        """
        touch = as_touch(touch, fields)
        return self._sign(Unsubscription(self._digests.customer(touch.customer), scope_of(self._policy, touch)))

    def read(self, token: str) -> Unsubscription:
        """What the token asks for, without doing it. Raises TouchError when it is none of ours."""
        from itsdangerous import BadData

        try:
            values = self._serializer.loads(token) if _is_readable(token) else None
        except BadData:
            values = None
        if values is None or values[0] != _VERSION:
            raise TouchError(_NOT_OURS)
        _, customer, address, *scope = values
        return Unsubscription(_unpacked(customer), Scope(*scope), None if address is None else _unpacked(address))

    def _sign(self, one: Unsubscription) -> str:
        address = None if one.address is None else _packed(one.address)
        token = str(self._serializer.dumps([_VERSION, _packed(one.customer), address, *one.scope]))
        if len(token) > TOKEN_LENGTH_MAX:
            raise TouchError(
                f"the token would have {len(token)} characters, {TOKEN_LENGTH_MAX} are allowed; use shorter names for "
                "topic, category and channel (nothing was recorded)"
            )
        return token


class UnsubscribeTokens(_Tokens):
    """Makes and redeems the tokens of unsubscribe links.

    `key` signs; `old_keys` signed before, and their tokens are redeemed for as long as they are listed. Use keys that
    are kept elsewhere than the store, of at least 16 characters (`secrets.token_urlsafe()`), and for nothing else.
    Tokens belong to the governor's namespace and secret. Raises TouchError for a key that is too short, ImportError
    without the extra `fairtouch[unsubscribe]`.
    """

    def __init__(self, governor: Governor, key: str | bytes, *, old_keys: Collection[str | bytes] = ()) -> None:
        super().__init__(governor, key, old_keys=old_keys)
        self._governor: Final = governor

    def redeem(self, token: str, *, source: str = "one-click") -> ConsentEvent:
        """Does what the token asks for; the very next decision knows. Harmless when repeated.

        The evidence is the `source`. Who has opted in again meanwhile is out again. Raises TouchError when the token
        is none of ours; StoreUnavailable and StoreError as every verb does, and then redeem it again.
        """
        asked = self.read(token)
        event = self._governor.consent.withdraw(asked.customer, asked.scope, {"source": source})
        if asked.address is not None:
            self._governor.suppressions.suppress(asked.address, "unsubscribe")
        return event


class AsyncUnsubscribeTokens(_Tokens):
    """Makes and redeems the tokens of unsubscribe links, over an AsyncGovernor; see UnsubscribeTokens."""

    def __init__(self, governor: "AsyncGovernor", key: str | bytes, *, old_keys: Collection[str | bytes] = ()) -> None:
        super().__init__(governor, key, old_keys=old_keys)
        self._governor: Final = governor

    async def redeem(self, token: str, *, source: str = "one-click") -> ConsentEvent:
        """Does what the token asks for; the very next decision knows. Harmless when repeated.

        The evidence is the `source`. Who has opted in again meanwhile is out again. Raises TouchError when the token
        is none of ours; StoreUnavailable and StoreError as every verb does, and then redeem it again.
        """
        asked = self.read(token)
        event = await self._governor.consent.withdraw(asked.customer, asked.scope, {"source": source})
        if asked.address is not None:
            await self._governor.suppressions.suppress(asked.address, "unsubscribe")
        return event


def _listed(keys: object) -> list[bytes]:
    if isinstance(keys, str | bytes) or not isinstance(keys, Collection):
        raise TouchError("old_keys must be a list of keys; put a single one in brackets (nothing was recorded)")
    return [_checked(key) for key in keys]


def _checked(key: object) -> bytes:
    if not isinstance(key, str | bytes) or len(key) < _KEY_LENGTH_MIN:
        raise TouchError(
            f"a key must be a text or bytes of at least {_KEY_LENGTH_MIN} characters, such as "
            "secrets.token_urlsafe() makes; nothing was recorded"
        )
    return key.encode() if isinstance(key, str) else key


def _is_readable(token: object) -> bool:
    """Whether it can be a token, with its signature in the one way to write it: the last bits of its base64 are not
    looked at by whoever decodes it.
    """
    if not isinstance(token, str) or len(token) > TOKEN_LENGTH_MAX or not token.isascii():
        return False
    signature = token.rpartition(".")[2]
    try:
        return _packed(_unpacked(signature)) == signature
    except ValueError:
        return False


def _packed(digest: bytes) -> str:
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _unpacked(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))

"""What a queue holds: touches with their payloads as bytes, under which name, and until when.

Rule 1: names are digests; what an item holds stands in clear, see the package. Rule 2: its share of the spread follows
from its name alone, so whoever asks again gets the same.
"""

import json
import os
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from fairtouch.bounds import PAYLOAD_BYTES_MAX
from fairtouch.digests import Digests
from fairtouch.errors import IdConflict, StoreError, TouchError
from fairtouch.instants import from_ms
from fairtouch.stores.deferral_port import Claimed, Standing, Turns
from fairtouch.touch import Touch

_FIELDS: Final = {each.name: each.default for each in fields(Touch) if each.init}
_CONTENT: Final = ("channel", "category", "topic", "campaign", "subject", "tags", "address")
_NEVER_WRITTEN: Final = (ValueError, TypeError, LookupError, TouchError)
_LOST: Final = (
    "a deferred touch holds what fairtouch never wrote ({}); it comes up again when its claim ends. Restore the store, "
    "or cancel the touch"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferral:
    """A touch that a queue keeps. `id`: the touch's own, or the one that it was given. `due_at` (UTC): when it comes
    up next. `is_new` is False when a touch with this id was waiting already; then that one stays, with its payload.
    """

    id: str = field(repr=False)
    due_at: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class Item:
    """A touch whose turn has come."""

    name: bytes
    touch: Touch
    payload: Any
    expires_at: int
    turns: Turns


def with_id(touch: Touch) -> Touch:
    """The touch; with an id of its own, when it has none."""
    if touch.id is not None:
        return touch
    return Touch(**{name: getattr(touch, name) for name in _FIELDS} | {"id": os.urandom(16).hex()})


def name_of(digests: Digests, customer: str, touch_id: str) -> bytes:
    """Under which name a touch stands: her digest, and one of its id."""
    whose = digests.customer(customer)
    return whose + digests.deferral(whose, touch_id)


def share_of(name: bytes, spread: int) -> int:
    """An item's share of a stretch of time: uniform over all items, and always the same."""
    return int.from_bytes(name[-8:], "big") * spread >> 64


def spelled(payload: Any) -> str:
    """A payload as JSON. Raises TouchError for what is none, or too long."""
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise TouchError(
            f"the payload cannot be written as JSON ({type(error).__name__}); pass texts, numbers, lists and dicts, or "
            "a key by which the sender finds the rest. Nothing was kept"
        ) from error
    if size > PAYLOAD_BYTES_MAX:
        raise TouchError(
            f"the payload has {size} bytes as JSON, {PAYLOAD_BYTES_MAX} are allowed; pass a key by which the sender "
            "finds the rest. Nothing was kept"
        )
    return text


def content_of(touch: Touch, payload: str, expires_at: int) -> bytes:
    """What is kept: unlike every other by eight random bytes, so that a call finds out whether it was its own."""
    told = {name: value for name, default in _FIELDS.items() if (value := getattr(touch, name)) != default}
    head = json.dumps({"made": os.urandom(8).hex(), "expires_at": expires_at, "touch": told}, ensure_ascii=False)
    return f'{head[:-1]}, "payload": {payload}}}'.encode()


def deferral(touch: Touch, standing: Standing, content: bytes) -> Deferral:
    """What became of a touch that was handed in. Raises IdConflict when its id stands for another one."""
    is_new = standing.content == content
    if not is_new and _identity(_read(standing.content)[0]) != _identity(touch):
        raise IdConflict(str(touch.id))
    return Deferral(id=str(touch.id), due_at=from_ms(standing.due_at), is_new=is_new)


def _identity(touch: Touch) -> tuple[Any, ...]:
    return tuple(getattr(touch, name) for name in _CONTENT)


def item_of(claimed: Claimed) -> Item:
    """What was claimed. Raises StoreError for what fairtouch never wrote."""
    return Item(claimed.item, *_read(claimed.content), claimed.turns)


def _read(content: bytes) -> tuple[Touch, Any, int]:
    try:
        kept = json.loads(content)
        return Touch(**kept["touch"]), kept["payload"], int(kept["expires_at"])
    except _NEVER_WRITTEN as error:
        raise StoreError(_LOST.format(type(error).__name__)) from None

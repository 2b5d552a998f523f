"""The setting FAIRTOUCH, and the governor that it asks for: one per process and configuration, made when it is needed.

Rule 1: nothing is opened before the first message, check or command needs it. Rule 2: a governor is closed when the
process ends, or when a test changes the setting; a fork is the store's affair, which knows what to do about one.
"""

import atexit
import difflib
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from fairtouch.clock import Clock
from fairtouch.governor import Governor
from fairtouch.integrations.django.messages import FIELDS
from fairtouch.policy import Policy
from fairtouch.stores.port import Store
from fairtouch.touch import Touch

DJANGO_SMTP: Final = "django.core.mail.backends.smtp.EmailBackend"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Configuration:
    """What stands in FAIRTOUCH, by the same names in capitals.

    `policy`: a file, a table, or a `Policy`. `store`, `namespace`, `secret`, `clock`, `lease_seconds`: the governor's.
    `backend`: the backend that sends, as a dotted path. `touch`: fields of every touch, unless a message says
    otherwise. `customer`: a function from an address to the id of whoever it belongs to, or None. `to_touch`: a
    function from message and address to the touch, instead of all that.
    """

    policy: str | os.PathLike[str] | Mapping[str, Any] | Policy | None = None
    store: str | Store | None = None
    namespace: str = "default"
    secret: bytes | str | None = None
    clock: Clock | None = None
    lease_seconds: float = 900
    backend: str = DJANGO_SMTP
    touch: Mapping[str, Any] = field(default_factory=dict)
    customer: Callable[[str], str | None] | None = None
    to_touch: Callable[[Any, str], Touch] | None = None

    def read_policy(self) -> Policy:
        """The policy. Raises PolicyError."""
        if isinstance(self.policy, Policy):
            return self.policy
        if isinstance(self.policy, Mapping):
            return Policy.model_validate(dict(self.policy))
        if self.policy is None:
            raise ImproperlyConfigured("FAIRTOUCH has no POLICY: set it to the path of the policy file")
        return Policy.load(Path(self.policy))

    def new_governor(self) -> Governor:
        """A governor of its own, which the caller closes."""
        if self.store is None:
            raise ImproperlyConfigured(
                "FAIRTOUCH has no STORE: set it to a URL such as 'redis://localhost:6379/0', or "
                "'sqlite:////var/lib/shop/touches.db' for the processes of one machine"
            )
        return Governor(
            self.read_policy(),
            self.store,
            namespace=self.namespace,
            secret=self.secret,
            clock=self.clock,
            lease_seconds=self.lease_seconds,
        )

    def identity(self) -> tuple[Any, ...]:
        """Equal for configurations that ask for the same governor."""
        policy, store = self.policy, self.store
        if isinstance(policy, Mapping):
            policy = json.dumps(policy, sort_keys=True, default=str)
        return (
            id(policy) if isinstance(policy, Policy) else str(policy),
            store if isinstance(store, str) else id(store),
            self.namespace,
            self.secret,
            self.clock,
            self.lease_seconds,
        )


_KEYS: Final = tuple(each.name.upper() for each in fields(Configuration))
_CALLABLES: Final = ("CLOCK", "CUSTOMER", "TO_TOUCH")


def configuration(overrides: Mapping[str, Any] | None = None) -> Configuration:
    """FAIRTOUCH, with what one mailer says otherwise. Raises ImproperlyConfigured."""
    said = getattr(settings, "FAIRTOUCH", {})
    for name, table in (("FAIRTOUCH", said), ("the option 'fairtouch'", overrides or {})):
        if not isinstance(table, Mapping):
            raise ImproperlyConfigured(f"{name} must be a dict, not {type(table).__name__}")
        for key in table:
            _check_key(name, str(key))
    values = {**said, **(overrides or {})}
    for key in _CALLABLES:
        if isinstance(values.get(key), str):
            values[key] = imported(f"FAIRTOUCH[{key!r}]", values[key])
    touch = values.get("TOUCH", {})
    if not isinstance(touch, Mapping) or not set(touch) <= set(FIELDS):
        raise ImproperlyConfigured(
            "FAIRTOUCH['TOUCH'] must be a dict such as {'category': 'transactional'}; "
            f"its keys are {', '.join(FIELDS)}"
        )
    if values.get("TOUCH") and values.get("TO_TOUCH"):
        raise ImproperlyConfigured("FAIRTOUCH has both TOUCH and TO_TOUCH; a TO_TOUCH says everything itself")
    return Configuration(**{key.lower(): value for key, value in values.items()})


def _check_key(name: str, key: str) -> None:
    if key not in _KEYS:
        near = difflib.get_close_matches(key.upper(), _KEYS, 1)
        known = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KEYS)}"
        raise ImproperlyConfigured(f"{name} has an unknown key {key!r}; {known}")


def imported(name: str, path: str) -> Any:
    """What a dotted path leads to. Raises ImproperlyConfigured."""
    try:
        return import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"{name} = {path!r} cannot be imported: {error}") from error


class _Governors:
    """Those of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[Any, ...], tuple[Configuration, Governor]] = {}
        if hasattr(os, "register_at_fork"):  # another thread of the parent may have held it
            os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def find(self, wanted: Configuration) -> Governor:
        identity = wanted.identity()
        with self._lock:
            if identity not in self._open:
                self._open[identity] = (wanted, wanted.new_governor())  # keeps what `identity` knows by its id
            return self._open[identity][1]

    def close(self) -> None:
        with self._lock:
            closing = [governor for _, governor in self._open.values()]
            self._open.clear()
        for governor in closing:
            governor.close()


_governors: Final = _Governors()
atexit.register(_governors.close)


def governor(overrides: Mapping[str, Any] | Configuration | None = None) -> Governor:
    """The governor that FAIRTOUCH asks for, the one that judges mail: for consent pages, tasks, and other channels.

    `overrides`: what one mailer says otherwise. Do not keep it longer than a request, so that tests can change the
    setting. Raises ImproperlyConfigured, PolicyError, StoreUnavailable, StoreError.
    """
    wanted = overrides if isinstance(overrides, Configuration) else configuration(overrides)
    return _governors.find(wanted)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "FAIRTOUCH":
        _governors.close()


setting_changed.connect(_forget, dispatch_uid="fairtouch")

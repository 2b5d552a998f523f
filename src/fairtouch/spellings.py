"""What people type, read into addresses where an app takes them in: by libraries, and only when the app asks.

Rule 1: nothing in fairtouch calls these functions. A governor knows `addresses.normalize` alone, which every host
computes alike, whatever is installed there. Rule 2: what they return is a normal form already. Rule 3: an error says
what was wrong without repeating it.
"""

import re
import unicodedata
from collections.abc import Collection
from typing import Any, Final, Literal, get_args

from fairtouch.addresses import normalize, undecorated
from fairtouch.bounds import ADDRESS_LENGTH_MAX
from fairtouch.errors import TouchError
from fairtouch.touch import check_country, check_text

Ignorable = Literal["tag", "dots", "case"]
_IGNORABLE: Final[tuple[str, ...]] = get_args(Ignorable)


def to_email(text: str) -> str:
    """An e-mail address as `email-validator` reads it: with or without a display name, at a public domain.

    It is stricter than `normalize`, which takes every address that somebody may have; where both take one, they agree.
    Nothing is looked up in the DNS. Raises TouchError when the text is no such address, ImportError without the extra
    `fairtouch[email]`.
    """
    try:
        from email_validator import EmailNotValidError, validate_email
    except ImportError as error:
        raise _missing("email-validator", "email") from error
    check_text("address", text, ADDRESS_LENGTH_MAX)
    try:
        read = validate_email(
            text.strip(),
            check_deliverability=False,
            allow_display_name=True,
            allow_quoted_local=True,
            allow_domain_literal=True,
        ).normalized
    except EmailNotValidError:
        read = None
    if read is None:  # outside of the handler: the library's error quotes the address
        raise TouchError("address is no e-mail address at a public domain (RFC 5321); nothing was recorded")
    return _literal(text, "email") or normalize(read, "email")


def to_e164(number: str, region: str | None = None) -> str:
    """A telephone number as `phonenumbers` reads it: the way it is dialled in `region` (ISO 3166-1, "GB"), or with its
    country code.

    "020 7946 0000" in "GB" and "+44 (0)20 7946 0000" anywhere are "+442079460000". Raises TouchError when no number of
    that country has this length, or an extension follows; ImportError without the extra `fairtouch[phone]`.
    """
    try:
        import phonenumbers
    except ImportError as error:
        raise _missing("phonenumbers", "phone") from error
    check_text("address", number, ADDRESS_LENGTH_MAX)
    if region is not None:
        check_country(region)
    dialled = undecorated(unicodedata.normalize("NFKC", number))
    try:
        read = phonenumbers.parse(dialled, None if region is None else region.upper())
    except phonenumbers.NumberParseException:
        read = None
    if read is None or not re.fullmatch(r"\+?[0-9]+", dialled) or not _is_whole(read):
        raise TouchError(
            f"address is no telephone number as it is dialled in region={region!r}; write it with + and its country "
            "code, without an extension, or name the region that it is from (nothing was recorded)"
        )
    e164 = normalize(phonenumbers.format_number(read, phonenumbers.PhoneNumberFormat.E164), "voice")
    if _literal(number, "voice") not in (None, e164):
        raise TouchError(
            "address can be read in two ways, as it stands and as it is dialled; write the number that reaches the "
            "person as E.164, + and digits (nothing was recorded)"
        )
    return e164


def _is_whole(number: Any) -> bool:
    """Whether a number of its country can have this length; one that is dialled within its town only is a part."""
    import phonenumbers

    return phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE


def _literal(text: str, channel: str) -> str | None:
    try:
        return normalize(text, channel)
    except TouchError:
        return None


def mailbox(address: str, *, ignoring: Collection[Ignorable]) -> str:
    """The mailbox behind an e-mail address at a host of which the app knows what it ignores before the @.

    `ignoring`: "tag" (from the first + on), "dots", "case". That "ada+news@" and "ada@" are one person is a habit of
    some providers and a standard of none (RFC 5233 leaves the separator to the site), so nothing is ignored unasked.
    Pass what comes back wherever the app names the customer or her address, or nowhere: what was recorded under the
    full address is found under the full address only. Raises TouchError.
    """
    if isinstance(ignoring, str) or not set(ignoring) <= set(_IGNORABLE):
        raise TouchError(f"ignoring must be a set of {', '.join(_IGNORABLE)}; nothing was recorded")
    normal = normalize(address, "email")
    local, at, domain = normal.rpartition("@")
    if not at:
        raise TouchError("address is no e-mail address, name@domain; nothing was recorded")
    if local.startswith('"'):  # quoted, so that nothing in it has a meaning of its own
        return normal
    name = local.lower() if "case" in ignoring else local
    if "tag" in ignoring:
        name = name.partition("+")[0] or name
    if "dots" in ignoring:
        name = name.replace(".", "") or name
    return f"{name}@{domain}"


def _missing(package: str, extra: str) -> ImportError:
    return ImportError(f'{package} is needed to read this; install it with: pip install "fairtouch[{extra}]"')

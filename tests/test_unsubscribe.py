"""A link that lets a person out: it works for ever and many times, can do nothing else, and nobody can forge it."""

import asyncio
import json
import pickle
import smtplib
import sys
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage, Message
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from examples.mail_server import MailServer
from fairtouch import AsyncGovernor, Governor, Policy, Touch, TouchError
from fairtouch.consent import State, Word
from fairtouch.integrations.list_unsubscribe import POST, unsubscribe_headers, with_unsubscribe
from fairtouch.integrations.smtp import GovernedSMTP
from fairtouch.testing import FrozenClock
from fairtouch.unsubscribe import AsyncUnsubscribeTokens, UnsubscribeTokens

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY, OLD_KEY = "the key that signs the links of today", b"the key that signed those of yesterday"
TOPICS = {"topics": {"newsletter": {"category": "marketing"}, "receipts": {"category": "transactional"}}}
LINK = "https://shop.example/unsubscribe/"

Build = Callable[..., Governor]


@pytest.fixture
def govern() -> Iterator[Build]:
    """Builds governors at noon, each on a store of its own unless one is given, and closes them afterwards."""
    opened: list[Governor] = []

    def build(rules: dict[str, Any] | None = None, store: str = "memory://", **options: Any) -> Governor:
        options = {"clock": FrozenClock(NOON)} | options
        opened.append(Governor(Policy.model_validate(rules or {}), store, **options))
        return opened[-1]

    yield build
    for governor in opened:
        governor.close()


def allowed(governor: Governor, **fields: Any) -> bool:
    """Whether Ada may be contacted."""
    return governor.check("ada", **fields).allowed


def mail(kind: type[Message] = EmailMessage, to: str = "ada@example.org") -> Any:
    """A short message to Ada."""
    message = kind()
    message["From"] = "shop@shop.example"
    message["To"] = to
    message["Subject"] = "Spring, and a subject that is so much longer than a line may be that it is folded"
    message["Message-ID"] = "<1@shop.example>"
    message.set_payload("Hello!\n")
    return message


# From the sender to the store


@pytest.mark.parametrize("kind", [EmailMessage, Message])
@pytest.mark.parametrize("store", ["memory", "sqlite", "redis"])
def test_the_link_in_a_received_message_ends_the_newsletter(store, kind, govern, tmp_path, redis_url):
    """What a real server received has both headers whole; the token in it is redeemed, and the next one is refused."""
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/touches.db", "redis": redis_url}
    governor = govern(TOPICS, urls[store])
    tokens = UnsubscribeTokens(governor, KEY)
    touch = Touch("ada", channel="email", topic="newsletter", address="ada@example.org")
    mailto = f"mailto:leave@shop.example?subject={tokens.for_touch(touch)}"
    message = with_unsubscribe(mail(kind), LINK + tokens.for_touch(touch), mailto=mailto)
    with MailServer() as server, smtplib.SMTP(server.host, server.port) as client:
        smtp = GovernedSMTP(client, governor, lambda message, address: touch)
        assert {} == smtp.send_message(message)
        tokens.redeem(received_link(server.mails[0].content).removeprefix(LINK))
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            smtp.send_message(message)
    (refusal,) = refused.value.recipients.values()
    assert (1, ["opted_out"]) == (len(server.mails), [reason.code for reason in refusal.decision.reasons])
    assert allowed(governor, channel="email", category="transactional")


def received_link(content: bytes) -> str:
    """The https link of a message, read as RFC 2369 says: unfolded, the first between angle brackets."""
    head = content.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").decode("ascii")
    fields = dict(line.split(":", 1) for line in head.split("\r\n"))
    links = [link.strip() for link in fields["List-Unsubscribe"].split(",")]
    assert (["<https:", "<mailto"], POST) == ([link[:7] for link in links], fields["List-Unsubscribe-Post"].strip())
    return links[0].strip("<>")


def test_an_awaited_governor_redeems_as_well(tmp_path):
    """A token made over one front is redeemed over the other, and the next decision knows."""
    url = f"sqlite:///{tmp_path}/touches.db"
    with Governor(Policy(), url) as governor:
        token = UnsubscribeTokens(governor, KEY).make("ada", channel="email", suppress="ada@example.org")

        async def redeem() -> tuple[int, bool]:
            async with AsyncGovernor(Policy(), url) as awaited:
                tokens = AsyncUnsubscribeTokens(awaited, KEY)
                assert token == tokens.make("ada", channel="email", suppress="ada@example.org")
                events = {(await tokens.redeem(token)).at for _ in range(3)}
                return len(events), (await awaited.check("ada", channel="email")).allowed

        assert (1, False) == asyncio.run(redeem())
        assert not allowed(governor, channel="email")
        assert governor.suppressions.contains("ada@example.org", "email")


# What it withdraws


MARKETING, SERVICE, NEWS = {"channel": "email"}, {"channel": "email", "category": "service"}, {"topic": "newsletter"}
TEXTED = {"channel": "sms"}


@pytest.mark.parametrize(
    ("touch", "ended", "kept"),
    [
        (NEWS, [MARKETING | NEWS, SERVICE | NEWS], [MARKETING, SERVICE, TEXTED | NEWS]),
        ({"category": "service"}, [SERVICE, SERVICE | NEWS], [MARKETING, MARKETING | NEWS, TEXTED | SERVICE | TEXTED]),
        ({}, [MARKETING, MARKETING | NEWS], [SERVICE, TEXTED]),
    ],
    ids=str,
)
def test_a_messages_link_ends_what_the_message_is(touch, ended, kept, govern):
    """Its topic on its channel, whichever the category; without a topic, its category there."""
    governor = govern(TOPICS)
    tokens = UnsubscribeTokens(governor, KEY)
    tokens.redeem(tokens.for_touch("ada", channel="email", **touch))
    assert [False] * len(ended) == [allowed(governor, **fields) for fields in ended]
    assert [True] * len(kept) == [allowed(governor, **fields) for fields in kept]


def test_a_link_can_end_everything(govern):
    """At no scope at all it ends what a general opt-out ends; essential messages go on."""
    governor = govern()
    tokens = UnsubscribeTokens(governor, KEY)
    event = tokens.redeem(tokens.make("ada"), source="preference page")
    assert (Word.OPT_OUT, NOON, {"source": "preference page"}) == (event.word, event.at, event.evidence)
    assert [False, False, True] == [
        allowed(governor, channel="email"),
        allowed(governor, channel="sms", category="service"),
        allowed(governor, channel="email", category="transactional"),
    ]


@pytest.mark.parametrize("touch", [{"category": "transactional"}, {"topic": "receipts"}], ids=str)
def test_an_essential_message_has_no_such_link(touch, govern):
    """Nobody loses password resets with one click; the error says how to make a link that does it all the same."""
    tokens = UnsubscribeTokens(govern(TOPICS), KEY)
    with pytest.raises(TouchError, match=r"make\(\)"):
        tokens.for_touch("ada", channel="email", **touch)
    assert tokens.make("ada", channel="email", category="transactional")


def test_an_address_is_suppressed_only_when_asked(govern):
    """A token with an address stops all mail to it, whoever's it is; one without leaves addresses alone."""
    governor = govern()
    tokens = UnsubscribeTokens(governor, KEY)
    essential = {"channel": "email", "category": "transactional"}
    tokens.redeem(tokens.make("ada", channel="email"))
    assert allowed(governor, **essential, address="ada@example.org")
    token = tokens.make("ada", channel="email", suppress="ada@EXAMPLE.org")
    tokens.redeem(token)
    tokens.redeem(token)
    decision = governor.check("grace", **essential, address="ada@example.org")
    assert ["suppressed"] == [reason.code for reason in decision.reasons]
    with pytest.raises(TouchError, match="channel="):
        tokens.make("ada", suppress="ada@example.org")


# For ever, and many times


def test_redeeming_again_changes_nothing(govern):
    """A hundred clicks are one word, at the instant of the first."""
    clock = FrozenClock(NOON)
    governor = govern(clock=clock)
    tokens = UnsubscribeTokens(governor, KEY)
    token = tokens.make("ada", channel="email")
    instants = []
    for _ in range(100):
        instants.append(tokens.redeem(token).at)
        clock.advance(timedelta(days=40))
        governor.consent.opt_out("ada", channel="sms") if len(instants) == 50 else None
    assert ({NOON}, 2) == (set(instants), len(governor.consent.history("ada")))


@pytest.mark.parametrize("word", ["opt_in", "request"])
def test_an_old_link_ends_what_was_asked_for_since(word, govern):
    """After the person came back, or was about to, the same old link lets her out again, years later."""
    clock = FrozenClock(NOON)
    governor = govern(TOPICS, clock=clock)
    tokens = UnsubscribeTokens(governor, KEY)
    token = tokens.make("ada", channel="email")
    tokens.redeem(token)
    getattr(governor.consent, word)("ada", channel="email", topic="newsletter")
    clock.advance(timedelta(days=9_000))
    assert clock() == tokens.redeem(token).at
    assert State.OPTED_OUT == governor.consent.status("ada", channel="email", topic="newsletter").state
    with pytest.raises(TouchError, match="no request stands"):
        governor.consent.confirm("ada", channel="email", topic="newsletter")


def test_a_link_outlives_the_policy(govern, tmp_path):
    """A topic that the policy dropped, and a channel, can still be withdrawn from: a link never ends in an error."""
    url = f"sqlite:///{tmp_path}/touches.db"
    before = UnsubscribeTokens(govern(TOPICS | {"channels": ["pigeon"]}, url), KEY)
    token = before.make("ada", channel="pigeon", topic="newsletter", suppress="@ada")
    after = govern({"topics": {"offers": {"category": "marketing"}}}, url)
    UnsubscribeTokens(after, KEY).redeem(token)
    again = govern(TOPICS | {"channels": ["pigeon"]}, url)
    assert not allowed(again, channel="pigeon", topic="newsletter")
    assert again.suppressions.contains("@ada", "pigeon")


def test_links_survive_new_keys(govern):
    """The new key signs, the old ones still verify; a key that is gone ends its links."""
    governor = govern()
    old = UnsubscribeTokens(governor, OLD_KEY).make("ada", channel="email")
    both = UnsubscribeTokens(governor, KEY, old_keys=[b"another old key of ours", OLD_KEY])
    new = both.make("ada", channel="email")
    assert new != old
    assert both.read(old) == both.read(new) == UnsubscribeTokens(governor, KEY).read(new)
    with pytest.raises(TouchError, match="old_keys"):
        UnsubscribeTokens(governor, KEY).read(old)


def test_a_link_of_an_earlier_version_is_redeemed(govern):
    """This one was made by the first version; every later one must let its bearer out."""
    governor = govern(namespace="shop", secret="the secret of the digests")
    token = (
        "WzEsIldlTjFXU0kwaDQ3aEhWWEwtWlFFbmciLCJFZU5LdTNaQkFFSHZSVnhMRXgxSXNnIix"
        "udWxsLCJlbWFpbCIsIm5ld3MiXQ.zug0ggBow8j2N9fs7REhoOsM6ufKUN1FLO496lP-3RU"
    )
    assert token == UnsubscribeTokens(governor, KEY).make("ada", channel="email", topic="news", suppress="a@b.example")
    UnsubscribeTokens(governor, KEY).redeem(token)
    assert not allowed(governor, channel="email", topic="news")
    assert governor.suppressions.contains("a@b.example", "email")


# Nobody else can make one, and nobody is named


def is_turned_down(tokens: UnsubscribeTokens, token: Any) -> bool:
    """Whether redeeming is a TouchError that does not repeat the token; any other error is a mistake."""
    try:
        tokens.redeem(token)
    except TouchError as error:
        return "nothing was recorded" in str(error) and error.__cause__ is None
    return False


def test_a_changed_token_is_none(govern):
    """Every character replaced by every other, every prefix, every addition: an error each, and nothing is recorded."""
    governor = govern()
    tokens = UnsubscribeTokens(governor, KEY)
    token = tokens.make("ada", channel="email", topic="newsletter", suppress="ada@example.org")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    changed = [
        token[:place] + letter + token[place + 1 :]
        for place in range(len(token))
        for letter in letters
        if letter != token[place]
    ]
    changed += [token[:length] for length in range(len(token))]
    changed += [token + more for more in ("=", "A", ".", " ", "\n", "\x00", token)] + [f" {token}", f".{token}"]
    assert [] == [one for one in changed if not is_turned_down(tokens, one)]
    assert ([], False) == (governor.consent.history("ada"), governor.suppressions.contains("ada@example.org", "email"))


@settings(max_examples=300, deadline=None)
@given(st.text() | st.binary() | st.none() | st.from_regex(r"[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{43}", fullmatch=True))
def test_no_text_is_a_token(text):
    """Whatever is passed, it is a TouchError."""
    with Governor(Policy(), "memory://") as governor:
        assert is_turned_down(UnsubscribeTokens(governor, KEY), text)


def test_a_token_of_another_purpose_is_none(govern):
    """The same key under another salt, namespace or secret, another key, unsigned and oversized ones: errors all."""
    governor = govern(secret="the secret of the digests")
    tokens = UnsubscribeTokens(governor, KEY)
    token = tokens.make("ada", channel="email")
    payload = json.loads(urlsafe_b64decode(token.partition(".")[0] + "=="))
    others = [
        *(URLSafeSerializer(KEY, salt=salt).dumps(payload) for salt in (b"itsdangerous", b"fairtouch.unsubscribe")),
        UnsubscribeTokens(governor, OLD_KEY).make("ada", channel="email"),
        UnsubscribeTokens(govern(), KEY).make("ada", channel="email"),
        UnsubscribeTokens(govern(secret="another secret"), KEY).make("ada", channel="email"),
        UnsubscribeTokens(govern(secret="the secret of the digests", namespace="x"), KEY).make("ada", channel="email"),
        tokens._serializer.dumps([*payload[:-1], "".join(chr(0x20000 + 7_919 * n % 40_000) for n in range(999))]),
        token.partition(".")[0] + ".",
        token + "A" * 8_000_000,
        "é" + token,
        "\ud800" + token,
        token.encode(),
        None,
        7,
    ]
    assert [] == [str(other)[:80] for other in others if not is_turned_down(tokens, other)]
    assert not is_turned_down(tokens, token)


def test_a_token_names_nobody(govern):
    """Neither customer nor address stands in it, nor in what is read of it."""
    tokens = UnsubscribeTokens(govern(), KEY)
    token = tokens.make("ada-lovelace-1815", channel="email", suppress="ada.lovelace@example.org")
    told = urlsafe_b64decode(token.partition(".")[0] + "==").decode() + repr(tokens.read(token))
    assert [] == [word for word in ("ada", "lovelace", "1815") if word in told]


@pytest.mark.parametrize(
    ("key", "old_keys"),
    [("short", []), (b"", []), (None, []), (KEY, OLD_KEY), (KEY, "one key, not a list"), (KEY, ["x"]), (KEY, 7)],
)
def test_a_weak_key_is_an_error(key, old_keys, govern):
    """So is a single key where a list is meant, of which each letter would be a key."""
    with pytest.raises(TouchError, match="nothing was recorded"):
        UnsubscribeTokens(govern(), key, old_keys=old_keys)


def test_names_that_are_too_long_for_a_link_are_an_error(govern):
    """Before a link is sent that would not be read again."""
    tokens = UnsubscribeTokens(govern(), KEY)
    unlike = "".join(chr(0x20000 + 7_919 * number % 40_000) for number in range(256))
    with pytest.raises(TouchError, match="shorter names"):
        tokens.make("ada", channel="email", topic=unlike)
    assert tokens.read(tokens.make("ada", channel="email", topic=unlike[:100])).scope.topic == unlike[:100]


def test_a_missing_library_is_named(monkeypatch, govern):
    """The error names the extra to install."""
    monkeypatch.setitem(sys.modules, "itsdangerous", None)
    with pytest.raises(ImportError, match=r"fairtouch\[unsubscribe\]"):
        UnsubscribeTokens(govern(), KEY)


# The headers


@pytest.mark.parametrize("kind", [EmailMessage, Message])
def test_the_callers_message_is_not_changed(kind):
    """The headers stand in a copy, in place of those that were there; the rest is byte for byte the same."""
    message = mail(kind)
    message["List-Unsubscribe"] = "<https://old.example/>"
    message["list-unsubscribe-post"] = "List-Unsubscribe=One-Click"
    before = message.as_bytes()
    copy = with_unsubscribe(message, LINK + "x" * 500)
    assert before == message.as_bytes()
    again = message_from_bytes(copy.as_bytes())
    assert [f"<{LINK}{'x' * 500}>"] == [value.strip() for value in again.get_all("List-Unsubscribe")]
    assert [POST] == again.get_all("List-Unsubscribe-Post")
    old = message_from_bytes(before)
    del old["List-Unsubscribe"], old["List-Unsubscribe-Post"]
    del again["List-Unsubscribe"], again["List-Unsubscribe-Post"]
    assert old.as_bytes() == again.as_bytes()


@pytest.mark.parametrize("kind", [EmailMessage, Message])
@pytest.mark.parametrize("passed_on", [lambda value: value, deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_dict_of_headers_stays_whole_in_any_message(kind, passed_on):
    """A host that adds the headers itself writes every URL in one piece, on a line that is not too long."""
    headers = passed_on(
        unsubscribe_headers(LINK + "y" * (900 - len(LINK)), mailto=f"mailto:a@b.example?subject={'z' * 800}")
    )
    message = mail(kind)
    for name, value in headers.items():
        message[name] = value
    lines = deepcopy(message).as_bytes().splitlines()
    assert [LINK.encode() + b"y" * (900 - len(LINK))] == [
        line.partition(b"<")[2].partition(b">")[0] for line in lines if b"yyy" in line
    ]
    assert max(map(len, lines)) <= 998


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/u/x",
        "HTTP://shop.example/u/x",
        "shop.example/u/x",
        "https:///u/x",
        "https:/u/x",
        "https://[x/u",
        "mailto:leave@shop.example",
        "https://shop.example/u x",
        "https://shop.example/u\r\nBcc: eve@example.org",
        "https://shop.example/u\n",
        "https://shop.example/<x>",
        "https://shop.example/u,x",
        "https://shop.example/u;x",
        'https://shop.example/u"x',
        "https://shop.example/#x",
        "https://bücher.example/u",
        "https://shop.example/" + "x" * 900,
        "",
        None,
    ],
)
def test_a_link_that_would_not_arrive_is_an_error(url):
    """No other scheme than https, no URL that breaks the header or is broken by it; the error does not repeat it."""
    for message in (lambda: with_unsubscribe(mail(), url), lambda: unsubscribe_headers(url)):
        with pytest.raises(TouchError, match="nothing was recorded") as caught:
            message()
        assert "shop.example" not in str(caught.value)


@pytest.mark.parametrize(
    "mailto", ["leave@shop.example", "mailto:", "mailto:shop", LINK, "mailto:a@b.example,c@d.example"]
)
def test_a_mailto_link_is_a_whole_url(mailto):
    """An address alone is none, and neither is another scheme."""
    with pytest.raises(TouchError, match="mailto link"):
        unsubscribe_headers(LINK, mailto=mailto)


@pytest.mark.parametrize(
    ("recipients", "number"),
    [
        ({"To": "ada@example.org, grace@example.org"}, 2),
        ({"To": "ada@example.org", "Cc": "grace@example.org"}, 2),
        ({"To": "ada@example.org", "Bcc": "grace@example.org, alan@example.org"}, 3),
        ({"To": "ada@example.org, Ada <ada@EXAMPLE.org>", "Cc": "ada@example.org."}, 1),
        ({"To": "readers: ada@example.org, grace@example.org;"}, 2),
        ({"To": "undisclosed-recipients:;"}, 0),
        ({}, 0),
    ],
    ids=str,
)
def test_a_personal_link_goes_to_one_person(recipients, number):
    """A message that names several gets none: each of them could unsubscribe the other."""
    message = EmailMessage()
    for name, value in recipients.items():
        message[name] = value
    if number > 1:
        with pytest.raises(TouchError, match=f"names {number} recipients"):
            with_unsubscribe(message, LINK + "x")
    else:
        assert with_unsubscribe(message, LINK + "x")["List-Unsubscribe"] == f"<{LINK}x>"

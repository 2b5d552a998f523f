"""One contact point, one normal form: by a labelled corpus, by referees that were written elsewhere, and by fuzzing."""

import json
import subprocess
import sys
import traceback
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import phonenumbers
import pytest
from email_validator import EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from fairtouch import Governor, Policy, TouchError
from fairtouch.addresses import normalize
from fairtouch.spellings import mailbox, to_e164, to_email


class Row(NamedTuple):
    """A line of the corpus; `normal` is None where the spelling is an error."""

    spelling: str
    channel: str
    normal: str | None
    why: str


CORPUS = [
    Row(*json.loads(line)) for line in Path(__file__).with_name("addresses.jsonl").read_text("utf-8").splitlines()
]
CHANNELS = ["email", "sms", "voice", "whatsapp", "push", "in_app", "post", "telegram"]
PERSONAL = "zq7x"  # whatever else an address holds; no word of ours has it


def read(function: Any, *arguments: Any) -> str | None:
    """What a function returns, or None for a TouchError. Anything else it raises is a mistake."""
    try:
        result = function(*arguments)
    except TouchError:
        return None
    assert isinstance(result, str)
    return result


def error_of(function: Any) -> str:
    """All that a TouchError and those behind it say; nothing where there is none."""
    try:
        function()
    except TouchError as error:
        behind = "".join(map(repr, [error.__cause__, error.__context__]))
        return "".join(traceback.format_exception(error)) + behind
    return ""


# The corpus


def test_every_spelling_of_the_corpus_reads_as_its_label_says():
    """Hundreds of spellings, each with its normal form, or none, and the reason."""
    wrong = [(row, found) for row in CORPUS if (found := read(normalize, row.spelling, row.channel)) != row.normal]
    assert ([], True) == (wrong, len(CORPUS) > 500)


def test_a_suppression_is_found_under_every_spelling_and_under_no_other():
    """Suppress an address under one spelling: all its others are suppressed, and no other address is."""
    rows = sorted((row for row in CORPUS if row.normal), key=lambda row: (row.channel, row.normal))
    groups = [list(group) for _, group in groupby(rows, key=lambda row: (row.channel, row.normal))]
    wrong = []
    with Governor(Policy(), "memory://") as one:
        for group in groups:
            wrong += [row for row in group if one.suppressions.contains(row.spelling, row.channel)]
            one.suppressions.add(group[-1].spelling, group[-1].channel)
            wrong += [row for row in group if not one.suppressions.contains(row.spelling, row.channel)]
    assert ([], True) == (wrong, len(groups) > 100)


# Everything else that can be written

STRANGE = (
    '@@@.."\\<>()[]:;,+-/ \t\n\u00a0\u200b\u200d\u200e\u202e\u3000\ufeff\u3002\uff0e\uff20\uff0b\u00df\u1e9e\u03c2'
    "\u03a3\u0130\u0131\u00fc\u0308\u0301\u05d0\u0661\u0967\uff11\ufb01\u2100\u2260\u0338\ufdfa\u0378\ue000\ud800"
    "\U0001f4a9\U0001e030"
)
PIECES = st.one_of(
    st.sampled_from(["ada", "xn--bcher-kva", "bücher", "example.org", "[192.0.2.1]", "[IPv6:::1]", "whatsapp:"]),
    st.sampled_from(
        ["tel:", "whatsapp:", "+44", "0044", "(0)", "20 7946 0018", "+1", "+39 06", "ext", '"a b"', "+tag"]
    ),
    st.text(STRANGE + "abcXYZ0123456789", max_size=6),
    st.text(max_size=6),
)
SPELLINGS = st.lists(PIECES, min_size=1, max_size=8).map("".join)
LOCALS = st.text(STRANGE + "abcXYZ019.+\"'\\", min_size=1, max_size=8) | st.text(min_size=1, max_size=8)
LABELS = st.text("abcXYZ019-_" + STRANGE, min_size=1, max_size=8) | st.text(min_size=1, max_size=8)
MAILS = st.builds("{}@{}.{}".format, LOCALS, LABELS, st.sampled_from(["org", "example", "XN--BCHER-KVA", "ελ", "рф."]))
CODES = st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE))
NUMBERS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["+", "00", "tel:+", "+ ", "(+", "", "\uff0b"]),
    CODES,
    st.sampled_from(["", " ", "(0)", " (0)", "-", ") ", "0"]),
    st.text("0123456789 -()./٣", min_size=3, max_size=14),
)
ANYTHING = st.one_of(SPELLINGS, MAILS, NUMBERS, st.text(max_size=400))


@settings(max_examples=800, deadline=None)
@given(ANYTHING, st.sampled_from(CHANNELS))
def test_a_normal_form_is_its_own_normal_form(spelling, channel):
    """Whatever the text: either a TouchError, and nothing else, or a form that is read as itself ever after."""
    normal = read(normalize, spelling, channel)
    assert normal is None or normal == normalize(normal, channel)


@settings(max_examples=300, deadline=None)
@given(st.builds(f"{{}}{PERSONAL}{{}}".format, SPELLINGS, SPELLINGS), st.sampled_from(CHANNELS))
def test_no_error_names_the_address(spelling, channel):
    """Neither the text of an error nor that of one behind it says what was passed."""
    for function in (lambda: normalize(spelling, channel), lambda: to_email(spelling), lambda: to_e164(spelling, "GB")):
        told = error_of(function)
        assert PERSONAL not in told.lower()
        assert told == "" or "nothing was recorded" in told


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([row for row in CORPUS if row.normal and row.channel == "email" and row.normal.isascii()]))
def test_case_of_the_domain_and_blanks_around_never_matter(row):
    """Another case of the domain, a final dot and white space around are the same address."""
    local, at, domain = row.normal.rpartition("@")
    for other in (domain.upper(), domain.title(), domain + ("" if "]" in domain else ".")):
        assert not at or row.normal == normalize(f"\u3000 {local}@{other}\r\n", "email")


# Every host alike

ELSEWHERE = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("email_validator", "phonenumbers", "dns"):
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
from fairtouch import TouchError
from fairtouch.addresses import normalize

for line in sys.stdin:
    spelling, channel, *_ = json.loads(line)
    try:
        print(json.dumps(normalize(spelling, channel)))
    except TouchError:
        print("null")
"""


def test_a_host_without_the_extras_reads_every_spelling_alike():
    """Where neither email-validator nor phonenumbers is installed, each spelling has the same form or is an error."""
    lines = "".join(json.dumps(row) + "\n" for row in CORPUS)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE], input=lines, capture_output=True, text=True, check=True
    )
    assert [row.normal for row in CORPUS] == [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("email_validator", "fairtouch[email]", lambda: to_email("ada@example.org")),
        ("phonenumbers", "fairtouch[phone]", lambda: to_e164("+442079460018")),
    ],
)
def test_a_missing_library_is_named(monkeypatch, package, extra, call):
    """The error names the extra to install."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="pip install") as caught:
        call()
    assert extra in str(caught.value)


@pytest.mark.parametrize(
    ("spelling", "channel", "way_out"),
    [
        ("Ada <ada@example.org>", "email", "fairtouch.spellings.to_email"),
        ("020 7946 0018", "sms", "fairtouch.spellings.to_e164"),
        ("+44 (0)20 7946 0018", "voice", "fairtouch.spellings.to_e164"),
        ("ada@\U0001f4a9.example", "email", "xn-- form"),
        ("a\u200bda@example.org", "email", "remove it"),
        ("ad\u0378@example.org", "email", "newer Python"),
        ("a" * 300 + "@example.org", "email", "254 are allowed"),
        ("ada@[IPv6:x]", "email", "IP address"),
    ],
)
def test_an_error_says_what_to_do_next(spelling, channel, way_out):
    """Each names the way out, and says that nothing was recorded."""
    with pytest.raises(TouchError, match="nothing was recorded") as caught:
        normalize(spelling, channel)
    assert way_out in str(caught.value)


# Referees: libraries that read the same without knowing ours


def referee(spelling: str) -> str | None:
    """What email-validator makes of an address, in our normal form."""
    try:
        options = {"check_deliverability": False, "allow_quoted_local": True, "allow_domain_literal": True}
        found = validate_email(spelling.strip(), **options, allow_display_name=True)
    except EmailNotValidError:
        return None
    return read(normalize, found.normalized, "email")


def agree(ours: str, theirs: str) -> bool:
    """The local part of a role (RFC 2142) is in lower case there, and as it is here."""
    return theirs == (ours.lower() if ours.partition("@")[0].lower() in CASE_INSENSITIVE_MAILBOX_NAMES else ours)


@settings(max_examples=800, deadline=None)
@given(MAILS | SPELLINGS)
def test_email_validator_reads_no_address_otherwise(spelling):
    """Where both accept an e-mail address, they agree, and so does the function that asks email-validator."""
    ours, theirs = read(normalize, spelling, "email"), referee(spelling)
    assert ours is None or theirs is None or agree(ours, theirs)
    assert (None if theirs is None else ours or theirs) == read(to_email, spelling)


def test_email_validator_agrees_with_the_corpus():
    """The same for the corpus; what it accepts beyond the rule is display names, and it accepts a lot of the rest."""
    rows = [(row, referee(row.spelling)) for row in CORPUS if row.channel == "email"]
    assert [] == [row for row, theirs in rows if theirs and row.normal and not agree(row.normal, theirs)]
    assert {"a display name"} == {row.why for row, theirs in rows if theirs and not row.normal}
    assert sum(1 for row, theirs in rows if theirs and row.normal) > 100


@settings(max_examples=800, deadline=None)
@given(NUMBERS | SPELLINGS, st.sampled_from([None, "GB", "US", "IT", "JP", "RU", "MX"]))
def test_phonenumbers_reads_no_number_otherwise(spelling, region):
    """Where both accept a number, they agree, whichever region it is dialled from."""
    ours, theirs = read(normalize, spelling, "voice"), read(to_e164, spelling, region)
    assert ours is None or theirs is None or ours == theirs


def examples() -> list[tuple[str, Any]]:
    """A valid number of every sort of every region."""
    sorts = phonenumbers.PhoneNumberType.values()
    found = [
        (region, phonenumbers.example_number_for_type(region, sort))
        for region in sorted(phonenumbers.SUPPORTED_REGIONS)
        for sort in sorts
    ]
    codes = sorted(phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS)
    found += [("001", phonenumbers.example_number_for_non_geo_entity(code)) for code in codes]
    return [(region, number) for region, number in found if number is not None]


def test_the_worlds_numbers_read_as_they_are_meant():
    """A number of each sort of all regions, in each international format, is its E.164; dialled at home it needs the
    region.
    """
    formats = phonenumbers.PhoneNumberFormat
    wrong, errors, dialled = [], set(), 0
    for region, number in examples():
        e164 = phonenumbers.format_number(number, formats.E164)
        for form in (formats.E164, formats.INTERNATIONAL, formats.RFC3966):
            spelling = phonenumbers.format_number(number, form)
            ours = read(normalize, spelling, "sms")
            wrong += [(region, spelling)] if ours not in (e164, None) else []
            errors |= {e164} if ours is None else set()
        national = phonenumbers.format_number(number, formats.NATIONAL)
        theirs = None if region == "001" else read(to_e164, national, region)
        wrong += [(region, national)] if {theirs, read(normalize, national, "sms")} - {e164, None} else []
        dialled += theirs == e164
    gabon = {"+24101441234", "+24106031234"}  # as they were until 2019; today the same lines are dialled otherwise
    assert ([], gabon | {"+989601"}, True) == (wrong, errors, dialled > 1_000)  # the last is shorter than all others


def test_the_table_of_trunk_zeros_is_the_worlds():
    """A 0 behind a country code is an error where it is dialled at home only, and part of the number elsewhere."""
    literal = {
        code
        for code in sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
        if code not in (1, 7) and read(normalize, f"+{code}012345678", "sms")
    }
    theirs = set()
    for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        metadata = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, regions[0])
        if code not in (1, 7) and not (metadata.national_prefix or "").startswith("0"):
            theirs.add(code)
    assert theirs - {241} == literal  # Gabon's zero went in 2019; both forms are still written


# What an app may ask for


@pytest.mark.parametrize(
    ("ignoring", "expected"),
    [
        (set(), "A.da.L+news+47@example.org"),
        ({"tag"}, "A.da.L@example.org"),
        ({"dots"}, "AdaL+news+47@example.org"),
        ({"case"}, "a.da.l+news+47@example.org"),
        (["tag", "dots", "case"], "adal@example.org"),
    ],
)
def test_what_stands_before_the_at_is_ignored_on_request(ignoring, expected):
    """Tag, dots and case, each when it is asked for, never by themselves."""
    found = mailbox(" A.da.L+news+47@EXAMPLE.org", ignoring=ignoring)
    assert (expected, expected) == (found, normalize(found, "email"))


@pytest.mark.parametrize(
    "spelling", ["+news@example.org", "...@example.org", '"a +b"@example.org', "JÜ@bücher.example"]
)
def test_a_mailbox_never_loses_its_name(spelling):
    """Where nothing would be left, or quotes hold it together, the name stays."""
    found = mailbox(spelling, ignoring={"tag", "dots"})
    assert normalize(spelling, "email") == found


@pytest.mark.parametrize(
    ("address", "ignoring"),
    [("ada", {"tag"}), ("ada@", {"tag"}), ("ada@example.org", {"tags"}), ("ada@example.org", "tag"), ("@", set())],
)
def test_a_mailbox_of_no_address_is_an_error(address, ignoring):
    """So is a word that nobody knows."""
    with pytest.raises(TouchError, match="nothing was recorded"):
        mailbox(address, ignoring=ignoring)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada Lovelace <ada@EXAMPLE.org>", "ada@example.org"),
        ('"Lovelace, Ada" <"ada"@example.org>', "ada@example.org"),
        (" ada@bücher.example ", "ada@xn--bcher-kva.example"),
        ("Postmaster@example.org", "Postmaster@example.org"),
        ("ada@localhost", None),
        ("ada..lovelace@example.org", None),
        ("ada@example.org (home)", None),
        ("Ada", None),
        ("", None),
    ],
)
def test_an_address_is_read_as_it_is_typed(text, expected):
    """With a display name or without; what no public mail server could take is an error."""
    assert expected == read(to_email, text)


@pytest.mark.parametrize(
    ("number", "region", "expected"),
    [
        ("020 7946 0018", "GB", "+442079460018"),
        ("(0)20-7946 0018", "gb", "+442079460018"),
        ("+44 (0)20 7946 0018", None, "+442079460018"),
        ("0044 (0)20 7946 0018", "FR", "+442079460018"),
        ("011 44 20 7946 0018", "US", "+442079460018"),
        ("06 69812345", "IT", "+390669812345"),
        ("+39 06 69812345", None, "+390669812345"),
        ("8 916 123-45-67", "RU", "+79161234567"),
        ("٠٢٠ ٧٩٤٦ ٠٠١٨", "GB", "+442079460018"),
        ("020 7946 0018", None, None),
        ("020 7946 0018", "XX", None),
        ("020 7946 0018", "England", None),
        ("020 7946 0018 ext 5", "GB", None),
        ("020 7946 0018 / 020 7946 0019", "GB", None),
        ("call 020 7946 0018", "GB", None),
        ("+1-800-FLOWERS", None, None),
        ("12345", "GB", None),
        ("+54 11 15 2345 6789", None, None),
        ("", "GB", None),
    ],
)
def test_a_number_is_read_as_it_is_dialled(number, region, expected):
    """With its region, a national number is E.164; what is none, or can be read in two ways, is an error."""
    assert expected == read(to_e164, number, region)

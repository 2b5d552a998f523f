"""The documentation says what the code does: every key, code, event, word, limit and printed line."""

import contextlib
import io
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import fairtouch
from fairtouch import Governor, Policy, PolicyError, bounds
from fairtouch.consent import State, Word
from fairtouch.decision import Outcome
from fairtouch.facts import SuppressionCause
from fairtouch.feedback import EVENTS
from fairtouch.policy.model import (
    CapSection,
    ConsentSection,
    CooldownSection,
    CountsSection,
    CustomerSection,
    HeldBackSection,
    LedgerSection,
    LiftSection,
    PolicyModel,
    QuietHoursSection,
    RuleSection,
    SelectionSection,
    TopicSection,
    WaiveSection,
)
from fairtouch.reasons import SENTENCES
from fairtouch.stores.port import Recorded

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)

Table = list[dict[str, str]]


def page(name: str) -> str:
    """The text of a page."""
    return (DOCS / name).read_text("utf-8")


def spans(cell: str) -> list[str]:
    """What stands between back-ticks."""
    return re.findall(r"`([^`]+)`", cell)


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Every heading with the text below it, up to the next one; code is left out."""
    parts = re.split(
        r"^#{1,4} (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), flags=re.MULTILINE
    )
    yield from zip(parts[1::2], parts[2::2], strict=True)


def tables(text: str) -> Iterator[Table]:
    """The tables in a text, rows by column."""
    for block in re.findall(r"(?:^\|.*\|\n)+", text + "\n", flags=re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in block.splitlines()]
        yield [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def rows(name: str, column: str) -> dict[str, Table]:
    """By heading, the rows of a page's tables that have a column."""
    found: dict[str, Table] = {}
    for heading, text in sections(page(name)):
        for table in tables(text):
            if column in table[0]:
                found.setdefault(heading, []).extend(table)
    return found


# The policy file

MODELS: dict[str, type[BaseModel]] = {
    "Top level": PolicyModel,
    "ledger": LedgerSection,
    "customer": CustomerSection,
    "topics": TopicSection,
    "Keys of every rule": RuleSection,
    "Selections": SelectionSection,
    "consent": ConsentSection,
    "quiet_hours": QuietHoursSection,
    "lifted_by": LiftSection,
    "caps": CapSection,
    "counts": CountsSection,
    "held_back": HeldBackSection,
    "cooldowns": CooldownSection,
    "waive": WaiveSection,
}


def keys(model: type[BaseModel]) -> dict[str, Any]:
    """The keys of a section with their defaults, without those that every rule has."""
    shared = set(RuleSection.model_fields) if issubclass(model, RuleSection) and model is not RuleSection else set()
    fields = {name: field for name, field in model.model_fields.items() if name not in shared}
    return {field.alias or name: field.default for name, field in fields.items()}


def is_default(told: str, default: Any) -> bool:
    """Whether the page's word for a default is the default."""
    if default is PydanticUndefined:
        return told == "required"
    if not re.fullmatch("`[^`]+`", told):
        return not default or isinstance(default, BaseModel)
    value = tomllib.loads(f"value = {told.strip('`')}")["value"]
    return value == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("heading", MODELS)
def test_every_key_of_the_policy_file_is_described(heading):
    """The tables of keys name exactly the keys that there are, with their defaults."""
    told = {spans(row["key"])[0]: row["default"] for row in rows("reference/policy.md", "key")[heading]}
    known = keys(MODELS[heading])
    wrong = [key for key in known if key in told and not is_default(told[key], known[key])]
    assert (sorted(known), []) == (sorted(told), wrong)


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that an annotation leads to."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part
        elif part is not annotation:
            yield from sections_in(part)


def test_every_section_of_the_policy_file_has_its_table():
    """No section is left out, however deep in the model it stands."""
    found: set[type[BaseModel]] = {PolicyModel, RuleSection}
    waiting = list(found)
    while waiting:
        inner = {part for field in waiting.pop().model_fields.values() for part in sections_in(field.annotation)}
        waiting += inner - found
        found |= inner
    assert found == set(MODELS.values())


MISTAKES = [
    pytest.param(row["mistake"], row["what it says"], id=f"{heading}: {row['mistake'][:60]}")
    for heading, table in rows("reference/policy.md", "mistake").items()
    for row in table
]


@pytest.mark.parametrize(("mistake", "said"), MISTAKES)
def test_mistakes_in_a_policy_say_what_the_page_says(mistake, said):
    """Every line in the tables of mistakes is refused, with the words that stand beside it."""
    with pytest.raises(PolicyError) as refused:
        Policy.model_validate(tomllib.loads("\n".join(spans(mistake))))
    assert (said.strip("`") in str(refused.value), str(refused.value)) == (True, str(refused.value))


def test_every_key_has_an_example():
    """Each key of the policy file stands in an example, and every example on the page is a policy."""
    examples = re.findall(r"^```toml\n(.*?)^```$", page("reference/policy.md"), flags=re.MULTILINE | re.DOTALL)
    for example in examples:
        Policy.model_validate(tomllib.loads(example))
    words = set(re.findall(r"[\w-]+", "\n".join(re.sub(r'"[^"]*"', "", example) for example in examples)))
    assert set() == {key for model in MODELS.values() for key in keys(model)} - words


def test_every_limit_is_on_the_page():
    """The table of limits names every bound with its number."""
    told = {
        spans(row["name in `fairtouch.bounds`"])[0]: int(row["at most"])
        for row in rows("reference/policy.md", "at most")["Limits"]
    }
    known = {name: value for name, value in vars(bounds).items() if name.isupper()}
    assert known == told


# Vocabularies


def described(column: str) -> list[str]:
    """The words that the page of reasons describes in the tables with a column."""
    return [spans(row[column])[0] for table in rows("reference/reasons.md", column).values() for row in table]


def test_every_reason_has_its_sentence():
    """The page has every code, with the sentence that the code stands for."""
    told = {
        spans(row["code"])[0]: row["sentence"]
        for table in rows("reference/reasons.md", "code").values()
        for row in table
    }
    assert {str(code): sentence for code, sentence in SENTENCES.items()} == told


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("event", EVENTS),
        ("cause", get_args(SuppressionCause)),
        ("word", tuple(Word)),
        ("state", tuple(State)),
        ("outcome", tuple(Outcome)),
        ("recorded", tuple(Recorded)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_closed_vocabularies_are_described(column, words):
    """Events, causes, words and outcomes are all there, and none besides."""
    assert sorted(map(str, words)) == sorted(described(column))


def test_every_public_name_is_in_the_reference():
    """The page of the API has every name of the public face."""
    told = set(
        re.findall(
            r"^\.\. auto(?:class|exception):: fairtouch\.(\w+)\b(?!\.)", page("reference/api.md"), flags=re.MULTILINE
        )
    )
    assert set(fairtouch.__all__) == told


# The table of scopes

TOUCHES = {
    "e-mail, marketing, newsletter": {"channel": "email", "category": "marketing", "topic": "newsletter"},
    "e-mail, marketing, offers": {"channel": "email", "category": "marketing", "topic": "offers"},
    "sms, marketing, newsletter": {"channel": "sms", "category": "marketing", "topic": "newsletter"},
    "e-mail, service": {"channel": "email", "category": "service"},
    "e-mail, transactional": {"channel": "email", "category": "transactional"},
}
SAID = "said, in this order"
SCOPES = rows("reference/semantics.md", SAID)["When a touch is withdrawn"]


@pytest.mark.parametrize("row", SCOPES, ids=lambda row: row[SAID])
def test_the_table_of_scopes_is_what_happens(row):
    """Which touches may go after the words of a line is what the table says."""
    with Governor(Policy(), "memory://") as governor:
        for call in spans(row[SAID]):
            word, scope = call.rstrip(")").split("(")
            getattr(governor.consent, word)("ada", **dict(re.findall(r'(\w+)="(\w+)"', scope)))
        answers = {name: "yes" if governor.check("ada", **touch) else "no" for name, touch in TOUCHES.items()}
    assert {SAID: row[SAID]} | answers == row


# Pages

BLOCK = re.compile(
    r"^(?:```(\w+)\n(.*?)^```|<!-- invisible-code-block: python\n(.*?)^-->)$", flags=re.MULTILINE | re.DOTALL
)
PRINTING = [path for path in PAGES if "```text" in path.read_text("utf-8")]


def printed(told: str) -> str:
    """A pattern for what a page says is printed; … stands for anything."""
    return ".*".join(re.escape(part) for part in told.split("…"))


@pytest.mark.parametrize("path", PRINTING, ids=lambda path: str(path.relative_to(DOCS)))
def test_pages_show_what_is_printed(path, tmp_path, monkeypatch):
    """A `text` block that follows a `python` block is what the block prints."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__page__"}
    output, wrong = None, []
    for language, shown, hidden in BLOCK.findall(path.read_text("utf-8")):
        if language == "toml" and (named := re.match(r"# ([\w-]+\.toml)\s*\n", shown)):
            Path(named[1]).write_text(shown, encoding="utf-8")
        elif language == "text" and output is not None:
            wrong += [] if re.fullmatch(printed(shown), output, flags=re.DOTALL) else [(shown, output)]
            output = None
        elif language == "python" or hidden:
            with contextlib.redirect_stdout(io.StringIO()) as printing:
                exec(compile(shown or hidden, str(path), "exec"), names)
            output = printing.getvalue()
    for value in names.values():
        if isinstance(value, Governor):
            value.close()
    assert [] == wrong

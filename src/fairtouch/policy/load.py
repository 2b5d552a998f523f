"""`Policy`: a policy file, a dict or keywords, validated, extended by its packs, and compiled once."""

import hashlib
import json
import tomllib
from collections.abc import Callable
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, PrivateAttr, ValidationError, model_validator

from fairtouch.bounds import NAME_LENGTH_MAX, POLICY_BYTES_MAX, TEXT_LENGTH_MAX
from fairtouch.errors import PolicyError, TouchError
from fairtouch.policy.compile import Compiler, Words, nearest
from fairtouch.policy.model import Pack, PolicyModel
from fairtouch.policy.rules import Rules
from fairtouch.touch import Kind, Touch, check_text

_PROBLEMS_SHOWN = 20


class Policy(PolicyModel):
    """What is fair: one reviewed file, `Policy.load("policy.toml")`, or a dict, `Policy.model_validate({…})`, or
    keywords.

    Raises PolicyError with the path, the value and the nearest known key of everything that is wrong.
    """

    _rules: Rules = PrivateAttr()
    _words: Words = PrivateAttr()
    _keep: int = PrivateAttr()
    _packs: dict[str, Pack] = PrivateAttr()
    _revision: str = PrivateAttr()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a `.toml` or `.json` file. Raises PolicyError, also when the file is missing or larger than a
        mebibyte.
        """
        path = Path(path)
        parse = _parsers().get(path.suffix)
        if parse is None:
            raise PolicyError(f"{path.name}: a policy is a .toml or a .json file")
        try:
            if path.stat().st_size > POLICY_BYTES_MAX:
                raise PolicyError(f"{path.name} has {path.stat().st_size} bytes; {POLICY_BYTES_MAX} are allowed")
            data = parse(path.read_text("utf-8"))
        except (OSError, ValueError) as error:  # TOML, JSON and UTF-8 errors are ValueErrors
            raise PolicyError(f"{path}: {error}; nothing was loaded") from error
        try:
            return cls.model_validate(data)
        except PolicyError as error:
            raise PolicyError(f"{path.name}: {error}") from None

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        try:
            policy = handler(data)
        except ValidationError as error:
            raise PolicyError(_sentences(error, cls)) from None
        policy._compile()  # noqa: SLF001 - its own class
        return policy

    def _compile(self) -> None:
        compiler = Compiler(self)
        self._packs = {name: load_pack(name) for name in self.extends}
        self._rules = compiler.rules(self._packs)
        if compiler.problems:
            raise PolicyError(_joined(compiler.problems))
        self._words, self._keep = compiler.words, compiler.keep
        written = {name: pack.model_dump(mode="json", exclude_unset=True) for name, pack in self._packs.items()}
        written[""] = self.model_dump(mode="json", exclude_unset=True)
        self._revision = hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def rules(self) -> Rules:
        """The compiled rules, packs included."""
        return self._rules

    @property
    def keep(self) -> int:
        """The horizon: for how many milliseconds facts are kept."""
        return self._keep

    @property
    def revision(self) -> str:
        """A hash of everything that can change a verdict: two policies with the same revision decide the same."""
        return self._revision

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packs that this policy extends, and of the zone data."""
        return {name: pack.version for name, pack in self._packs.items()} | {"tzdata": _tzdata_version()}

    def kind(self, touch: Touch) -> Kind:
        """What a ledger remembers of the touch. Raises TouchError for a channel, category or topic that the policy
        does not know.
        """
        category, topic = touch.category, touch.topic
        self.check_scope(category, touch.channel, topic)
        if category is None:
            declared = self.topics.get(topic) if topic is not None else None
            category = declared.category if declared else "marketing"
        return Kind(touch.channel, category, topic, touch.campaign, touch.tags)

    def check_scope(self, category: str | None, channel: str | None, topic: str | None) -> None:
        """Raises TouchError when a value is no text, or no word of this policy; None is any."""
        for name, value, length_max in (
            ("category", category, NAME_LENGTH_MAX),
            ("channel", channel, NAME_LENGTH_MAX),
            ("topic", topic, TEXT_LENGTH_MAX),
        ):
            if value is not None:
                check_text(name, value, length_max)
        for key, value in (("channels", channel), ("categories", category), ("topics", topic)):
            for sentence in self._words.unknown(key, None if value is None else (value,)):
                raise TouchError(f"{sentence}; nothing was recorded")


@cache
def _tzdata_version() -> str:
    return version("tzdata")


def _parsers() -> dict[str, Callable[[str], Any]]:
    return {".toml": tomllib.loads, ".json": json.loads}


@cache
def load_pack(name: str) -> Pack:
    """A pack by its name, "us/tcpa". Raises PolicyError with the packs that there are."""
    known = frozenset(pack_names())
    if name not in known:
        raise PolicyError(f"extends: there is no pack {name[:80]!r}{nearest(name, known)}")
    text = resources.files("fairtouch.policy").joinpath("packs", f"{name}.toml").read_text("utf-8")
    return Pack.model_validate(tomllib.loads(text))


@cache
def pack_names() -> tuple[str, ...]:
    """The packs that come with fairtouch."""
    with resources.as_file(resources.files("fairtouch.policy").joinpath("packs")) as folder:
        return tuple(sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml")))


def _sentences(error: ValidationError, model: type[BaseModel]) -> str:
    return _joined(
        [_sentence(detail["type"], detail["loc"], detail["msg"], detail["input"], model) for detail in error.errors()]
    )


def _joined(problems: list[str]) -> str:
    shown = problems[:_PROBLEMS_SHOWN]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    return "\n".join(shown)


def _sentence(kind: str, location: tuple[int | str, ...], message: str, value: object, model: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        return f"{path}: unknown key{nearest(str(location[-1]), _known_keys(model, location[:-1]))}"
    return f"{path} = {repr(value)[:80]}: {message.replace('valid tuple', 'list')}"


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> frozenset[str]:
    """The keys of the table that a path leads to."""
    steps = list(location)
    while steps:
        annotation = next(
            field.annotation for name, field in model.model_fields.items() if steps[0] in (name, field.alias)
        )
        steps.pop(0)
        inner = _models_in(annotation)
        if getattr(annotation, "__origin__", None) is dict and steps:
            steps.pop(0)  # a rule's own name
        model = inner
    return frozenset(field.alias or name for name, field in model.model_fields.items())


def _models_in(annotation: Any) -> type[BaseModel]:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next(
        candidate for candidate in candidates if isinstance(candidate, type) and issubclass(candidate, BaseModel)
    )

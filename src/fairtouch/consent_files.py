"""Consent files: plain CSV rows into words, line by line."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from dateutil.parser import isoparse

from fairtouch.bounds import BATCH_SIZE, IMPORT_ROWS_MAX, NAME_LENGTH_MAX, TEXT_LENGTH_MAX
from fairtouch.consent import Scope, Word
from fairtouch.errors import TouchError
from fairtouch.instants import to_ms
from fairtouch.touch import check_text

COLUMNS: Final = ("customer", "channel", "topic", "category", "status", "at")
_WORDS: Final = {"opted_in": Word.OPT_IN, "confirmed": Word.CONFIRM, "opted_out": Word.OPT_OUT, "pending": Word.REQUEST}
_OLDEST: Final = 1  # an opt-in of unknown age is older than every word
_PROBLEMS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, repr=False)
class ConsentRow:
    """One line of the file; `at` None is an opt-out that counts from now on."""

    line: int
    customer: str
    scope: Scope
    word: Word
    at: int | None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How many rows were kept, by word."""

    rows: int = 0
    opted_in: int = 0
    opted_out: int = 0
    pending: int = 0

    def with_rows(self, rows: Sequence[ConsentRow]) -> "ImportReport":
        """The report after more rows."""
        words = [row.word for row in rows]
        return ImportReport(
            self.rows + len(words),
            self.opted_in + words.count(Word.OPT_IN) + words.count(Word.CONFIRM),
            self.opted_out + words.count(Word.OPT_OUT),
            self.pending + words.count(Word.REQUEST),
        )


def read_rows(path: str | Path, check_scope: Callable[..., None]) -> Iterator[ConsentRow]:
    """The rows, one by one. Raises TouchError with the line numbers of what cannot be used, after the last line."""
    problems: list[str] = []
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            for line, fields in _lines(file, problems):
                try:
                    row = _row(line, fields)
                    check_scope(*row.scope)
                except (TouchError, ValueError) as error:
                    problems.append(f"line {line}: {str(error).removesuffix('; nothing was recorded')}")
                else:
                    yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TouchError(f"{Path(path).name} cannot be read: {error}; nothing was recorded") from error
    if problems:
        more = [f"and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
        raise TouchError("\n".join([*problems[:_PROBLEMS_SHOWN], *more, "nothing was recorded"]))


def read_batches(path: str | Path, check_scope: Callable[..., None]) -> Iterator[list[ConsentRow]]:
    """The same rows, at most 500 at a time."""
    rows = read_rows(path, check_scope)
    while batch := list(islice(rows, BATCH_SIZE)):
        yield batch


def _lines(file: Iterator[str], problems: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(file, strict=True)
    unknown = sorted(set(reader.fieldnames or ()) - set(COLUMNS))
    if unknown or not {"customer", "status"} <= set(reader.fieldnames or ()):
        problems.append(
            f"line 1: the columns are {', '.join(COLUMNS)}" + (f", not {', '.join(unknown)}" if unknown else "")
        )
        return
    for fields in reader:
        if reader.line_num > IMPORT_ROWS_MAX:
            problems.append(f"line {reader.line_num}: a file may have {IMPORT_ROWS_MAX} lines; split it")
            return
        if None in fields or None in fields.values():
            problems.append(f"line {reader.line_num}: has another number of columns than line 1")
            continue
        yield reader.line_num, {name: value.strip() for name, value in fields.items()}


def _row(line: int, fields: dict[str, str]) -> ConsentRow:
    customer = fields["customer"]
    check_text("customer", customer, TEXT_LENGTH_MAX)
    scope = Scope(*(fields.get(name) or None for name in ("category", "channel", "topic")))
    for name, value in zip(Scope._fields, scope, strict=True):
        if value is not None:
            check_text(name, value, TEXT_LENGTH_MAX if name == "topic" else NAME_LENGTH_MAX)
    word = _WORDS.get(fields["status"])
    if word is None:
        raise TouchError(f"status {fields['status'][:40]!r} is none of {', '.join(_WORDS)}")
    return ConsentRow(line, customer, scope, word, _instant(fields.get("at", ""), word))


def _instant(text: str, word: Word) -> int | None:
    if not text:
        return None if word is Word.OPT_OUT else _OLDEST
    at: datetime = isoparse(text)
    return to_ms(at)

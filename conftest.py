"""Runs the documentation: every ```python block of README.md and docs/ is a test.

A page is one program: its blocks share a namespace and a temporary working directory, so that `sqlite:///touches.db`
is a new file for every page. A ```toml block must parse; when its first line is a comment with a file name, such as
`# policy.toml`, the page finds it under that name, also before the block is reached. What a page needs but a reader
does not (a fake mail server, say) stands in `<!-- invisible-code-block: python` … `-->`. ```console blocks are not run.
"""

import os
import re
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sybil import Document, Example, Region, Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser

FILE_NAME = re.compile(r"# ([\w-]+\.toml)\s*\n")
PAGE = "__page__"  # where a namespace keeps its page's files and how to leave its directory


class TomlParser(CodeBlockParser):
    """Checks ```toml blocks and writes those that carry a file name."""

    language = "toml"

    def __call__(self, document: Document) -> Iterable[Region]:
        """Yield the blocks, and note the first text of each file for `enter`."""
        files = document.namespace.setdefault(PAGE, {}).setdefault("files", {})
        for region in super().__call__(document):
            if named := FILE_NAME.match(region.parsed):
                files.setdefault(named[1], str(region.parsed))
            yield region

    def evaluate(self, example: Example) -> str | None:
        """A later block of the same name replaces the file, as it does in the reader's editor."""
        try:
            tomllib.loads(example.parsed)
        except tomllib.TOMLDecodeError as error:
            return f"not TOML: {error}"
        if named := FILE_NAME.match(example.parsed):
            Path(named[1]).write_text(example.parsed, encoding="utf-8")
        return None


def enter(namespace: dict[str, Any]) -> None:
    """Go into the page's own directory, with its files in it."""
    page = namespace.setdefault(PAGE, {"files": {}})
    page["origin"] = Path.cwd()
    page["directory"] = tempfile.TemporaryDirectory(prefix="page-")
    os.chdir(page["directory"].name)
    for name, text in page["files"].items():
        Path(name).write_text(text, encoding="utf-8")


def leave(namespace: dict[str, Any]) -> None:
    """Close what the page opened (a reader's program ends here), and come back."""
    from fairtouch import Governor

    page = namespace.pop(PAGE)
    for value in namespace.values():
        if isinstance(value, Governor):
            value.close()
    namespace.clear()
    os.chdir(page["origin"])
    page["directory"].cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), TomlParser()],
    patterns=["*.md"],
    setup=enter,
    teardown=leave,
).pytest()


# These begin first when files run side by side, so that none of them is left to run alone at the end.
LONGEST = (
    *("replay", "seeded_bugs", "table_of_time", "calendar_histories", "stores_agree", "concurrency", "damaged_files"),
    *("power_loss", "deferral_spread", "redis_restarts", "model", "mixed_callers", "kill_nine", "celery_kills"),
)


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Order the files by how long they take, in the processes of pytest-xdist."""
    if hasattr(config, "workerinput"):
        rank = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(item.path.name, len(rank)))

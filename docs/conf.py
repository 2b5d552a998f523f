import logging
import re
from importlib import metadata

project = "fairtouch"
author = "The fairtouch authors"
copyright = author
release = version = metadata.version("fairtouch")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# Docstrings are prose in which `this` is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 100

# The index lists pages by pattern, so that a page joins by being written. A pattern without pages yet is no fault, but
# Sphinx gives this warning no type that suppress_warnings could name.
toctrees = logging.getLogger("sphinx.sphinx.directives.other")
toctrees.addFilter(lambda record: getattr(record, "subtype", None) != "empty_glob")

html_theme = "furo"
html_title = f"fairtouch {release}"


def setup(app):
    """An asterisk that stands alone in a docstring, as in `Resent-*`, begins no emphasis."""
    app.connect("autodoc-process-docstring", _escape_asterisks)


def _escape_asterisks(*given):
    lines = given[-1]
    lines[:] = [re.sub(r"(?<!\w)\*(?!\w)", r"\*", line) for line in lines]

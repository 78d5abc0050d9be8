"""Sphinx's configuration; `make docs` builds the pages, and a warning is an error."""

from docutils import nodes
from pygments.lexer import inherit
from pygments.lexers.dsls import ProtoBufLexer
from pygments.token import Comment

import kindaware

project = "kindaware"
author = "The kindaware developers"
project_copyright = "2026, The kindaware developers"
version = release = kindaware.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxext.opengraph",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
highlight_language = "none"
# In docstrings, single backticks are code, as in Markdown.
default_role = "literal"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
_HOOKS = ("Required", "Decoupled", "Optional")
napoleon_custom_sections = [
    *((name, "params_style") for name in _HOOKS),
    "Sync",
    "Source",
]

# The button copies commands without their prompt, and of a session the input alone.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .go"

ogp_site_name = "kindaware"
ogp_description_length = 200
# No address is known before the pages are published; cards are pictures made with it.
ogp_social_cards = {"enable": False}

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"kindaware {version}"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["kindaware.css"]


class PbtxtLexer(ProtoBufLexer):
    """config.pbtxt: the text form of protocol buffers, whose comments begin with #."""

    name = "pbtxt"
    aliases = ["pbtxt"]  # noqa: RUF012  (pygments wants a plain list)
    filenames = ["*.pbtxt"]  # noqa: RUF012
    tokens = {"root": [(r"#.*$", Comment.Single), inherit]}  # noqa: RUF012


def mark_code(app, what, name, obj, options, lines):
    """Take an indented block after an empty line for code, as its readers do."""
    marked, code_indent = [], None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if code_indent is not None and line.strip() and indent < code_indent:
            code_indent = None
        previous = marked[-2] if len(marked) > 1 and not marked[-1].strip() else ""
        previous_indent = len(previous) - len(previous.lstrip())
        if (
            code_indent is None
            and line.strip()
            and previous.strip()
            and indent > previous_indent
        ):
            code_indent = indent
            marked += [" " * previous_indent + ".. code-block:: python", ""]
        marked.append(line)
    lines[:] = marked


def add_classes(app, doctree):
    """Mark what kindaware.css treats on its own: pictures of text, and options."""
    for image in doctree.findall(nodes.image):
        if image["uri"].endswith(".svg") and "drawings/" not in image["uri"]:
            image["classes"].append("terminal")
    for literal in doctree.findall(nodes.literal):
        if literal.astext().startswith("-") and len(literal.astext().split()[0]) <= 30:
            literal["classes"].append("option")


def setup(app):
    app.add_lexer("pbtxt", PbtxtLexer)
    app.connect("autodoc-process-docstring", mark_code, priority=400)
    app.connect("doctree-read", add_classes)

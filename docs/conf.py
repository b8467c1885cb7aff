"""Sphinx's configuration of the documentation: ``make docs``.

Nothing is read from a network while it is built.  Pictures of the tutorials are made by the
tutorials themselves, by sphinx-gallery.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx_gallery.sorting import ExplicitOrder

import dipfast

HERE = Path(__file__).parent

# Small networks gain nothing from several threads, which wait for each other on busy cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "dipfast"
author = "The dipfast contributors"
version = release = dipfast.__version__
language = "en"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
root_doc = "index"
templates_path = ["_templates"]
exclude_patterns = [
    "_build",
    "tutorials",
    "explained",
    "generated/sources",
    "generated/explained/index.rst",  # its only page is in the contents itself
    "**/*.ipynb",
]

# Pages in Markdown.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Absolute values in the text of docstrings are no substitutions.
rst_epilog = r"""
.. |d| replace:: \|d\|
.. |0| replace:: \|0\|
"""

# Pages of functions and classes.
autosummary_generate = True
autosummary_context = {
    "all_names": {
        f"dipfast.{module}": list(getattr(dipfast, module).__all__)
        for module in ("errors", "networks", "operators", "ops", "stopping")
    }
}
autodoc_typehints = "none"  # they are in the descriptions, in words
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
nitpick_ignore_regex = [
    # Of other packages, and of Python: their pages are elsewhere.
    ("py:.*", r"(torch|numpy|np|pydantic|abc|typing|collections|enum|pathlib)\..*"),
    ("py:.*", r"[a-z]*(Error|Exception|Warning)"),
    # Rooms of the code that are no part of the interface; their files are named in CONTRIBUTING.md.
    ("py:.*", r"dipfast\.(apps|arrays|denoisers|model|prior|run|settings|stop_reason)\b.*"),
    ("py:.*", r"dipfast\.(images|ops\._|stopping\.[a-z_]+\.).*"),
    # Short names in docstrings of other modules.
    ("py:.*", r"Member|METRES|image_shape|write_image|ImageFile\.enlarged|limits\.LARGEST_IMAGE"),
    ("py:mod", r"dipfast\.torch_modes"),
    ("py:obj", r"dipfast\.[A-Za-z.]+\.(copy|model_|parse_|from_orm|dict|json|schema|validate).*"),
]

# Tutorials write files beside themselves, so they are run from a copy.
GALLERIES = ["tutorials", "explained"]
shutil.rmtree(HERE / "generated/sources", ignore_errors=True)
shutil.rmtree(HERE / "generated/api", ignore_errors=True)  # names that are gone have no page
for name in GALLERIES:
    shutil.copytree(HERE / name, HERE / "generated/sources" / name)

sphinx_gallery_conf = {
    "examples_dirs": [f"generated/sources/{name}" for name in GALLERIES],
    "gallery_dirs": [f"generated/{name}" for name in GALLERIES],
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"__init__\.py$",
    "within_subsection_order": ExplicitOrder(
        [
            "microscopy.py",
            "astronomy.py",
            "photography.py",
            "research.py",
            "how_it_works.py",
        ]
    ),
    "abort_on_example_error": True,
    "capture_repr": (),
    "download_all_examples": False,
    "image_srcset": ["2x"],
    "matplotlib_animations": False,
    "min_reported_time": 1,
    "plot_gallery": True,
    "remove_config_comments": True,
    "reset_modules": ("matplotlib", "docs_reset.settle"),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "nested_sections": False,
}
sys.path.insert(0, str(HERE / "_extensions"))

# How it looks.
html_theme = "pydata_sphinx_theme"
html_title = "dipfast"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
# Pages without others below them have no list of those.
html_sidebars = {
    page: []
    for page in (
        "index",
        "quick-start",
        "which-method",
        "faq",
        "performance",
        "changelog",
        "contributing",
        "generated/explained/how_it_works",
    )
}
html_theme_options = {
    "logo": {"text": "dipfast"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "back_to_top_button": False,
}
html_context = {"default_mode": "auto"}
copyright = "The dipfast contributors, MIT licence"
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _mathml(formula: str, as_block: bool) -> str:
    """Return a formula as MathML; the converter knows fractions with braces only."""
    formula = re.sub(r"\\[td]?frac *(\w) *(\w|\\\w+)", r"\\frac{\1}{\2}", formula)
    formula = formula.replace(r"\tfrac", r"\frac")
    written: str = latex2mathml.tex2mathml(" ".join(formula.split()), as_block=as_block)
    return written.replace("<mo>‖</mo>", '<mo stretchy="false" lspace="0" rspace="0">‖</mo>')


def _visit_math(self: Any, node: nodes.math) -> None:
    self.body.append(_mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _visit_displaymath(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{_mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


# Files outside of this folder that are pages all the same.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
}


def _point_to_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Let links to files of the repository lead to the pages that are made of them."""
    up = "../" * (name.count("/") + 1)
    for file, page in PAGES.items():
        source[0] = source[0].replace(f"]({up}{file}", f"]({up[3:]}{page}")


def setup(app: Sphinx) -> None:
    """Write formulas as MathML, which browsers show without a script from elsewhere."""
    app.connect("source-read", _point_to_pages)
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_displaymath, None))

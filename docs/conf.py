"""How Sphinx builds the documentation: `make docs`. No page loads anything from the network."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "splitfl"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = "splitfl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_copyright = False
pygments_style = "friendly"
toc_object_entries_show_parents = "hide"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
# Annotations name types of other libraries, whose documentation is not looked up.
nitpick_ignore_regex = [("py:class", ".*")]


def setup(app: Sphinx) -> None:
    """The reference is generated before Sphinx looks for pages."""
    app.connect("builder-inited", lambda app: _generate(Path(app.srcdir) / "reference"))


def _generate(folder: Path) -> None:
    from experiments.docs_pages import write

    write(folder)

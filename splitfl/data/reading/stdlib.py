"""English text available on every machine: the docstrings of Python's standard library.

The sources are parsed, never imported. An example is the docstring of a module, class or
function; its group is its top-level module, its class one of eleven areas.
The areas are the chapters of the Library Reference, https://docs.python.org/3/library/,
with small ones merged.
"""

import ast
import logging
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from splitfl.core.errors import DataError
from splitfl.data.examples import Examples, gather
from splitfl.data.reading.docstring_cache import Sources, Texts, parsed_once

log = logging.getLogger(__name__)

MIN_WORDS = 5
"""Shorter docstrings ("See above.") cannot be classified, not even by people."""

AREAS = {
    "text and markup": """string re sre_compile sre_constants sre_parse difflib textwrap stringprep
        codecs encodings gettext locale html xml _markupbase shlex""",
    "data types": """datetime _pydatetime _strptime zoneinfo calendar collections _collections_abc
        heapq bisect weakref _weakrefset types copy pprint reprlib enum graphlib""",
    "numbers and functions": """numbers decimal _pydecimal _pylong fractions random statistics
        functools operator""",
    "files and archives": """pathlib genericpath posixpath ntpath nturl2path stat filecmp tempfile glob
        fnmatch linecache shutil fileinput io _pyio pickle copyreg shelve dbm sqlite3 gzip bz2 lzma
        zipfile tarfile _compression compression csv configparser tomllib netrc plistlib xdrlib""",
    "operating system": """os platform logging ctypes argparse optparse getopt getpass cmd curses pty
        tty pipes crypt signal rlcompleter _colorize _osx_support _aix_support _android_support
        _apple_support _ios_support""",
    "concurrency": """asyncio threading _threading_local multiprocessing concurrent subprocess
        _bootsubprocess queue sched contextvars""",
    "networking and security": """socket ssl selectors asyncore asynchat socketserver http urllib
        ftplib poplib imaplib smtplib smtpd nntplib telnetlib xmlrpc wsgiref cgi cgitb uuid ipaddress
        webbrowser hashlib hmac secrets""",
    "internet data": "email mailbox mailcap mimetypes json base64 quopri uu",
    "graphics and sound": "tkinter turtle turtledemo wave aifc sunau chunk colorsys sndhdr imghdr",
    "development tools": """unittest pydoc doctest lib2to3 pdb bdb profile profiling cProfile pstats
        timeit trace tracemalloc distutils ensurepip venv zipapp""",
    "language and runtime": """importlib imp zipimport pkgutil modulefinder runpy inspect typing ast
        _ast_unparse annotationlib dis opcode _opcode_metadata symtable tokenize token keyword tabnanny
        pyclbr py_compile compileall pickletools contextlib dataclasses abc _py_abc warnings
        _py_warnings traceback site _sitebuiltins sysconfig code codeop _pyrepl __future__""",
}
"""Area -> its top-level modules in Python 3.11 to 3.14."""

AREA_NAMES = tuple(AREAS)
AREA_OF = {module: number for number, modules in enumerate(AREAS.values()) for module in modules.split()}

LEFT_OUT = frozenset({"idlelib", "pydoc_data", "antigravity", "this", "__hello__", "__phello__"})
"""Modules that are not library code: an application, generated text, jokes."""

SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages"})


def topics(root: Path | None = None) -> Examples:
    """The distinct docstrings with their areas as labels.

    `root` is the folder of a standard library, by default the running Python's.
    Raises DataError without sources, as in Python distributions shipped without them.
    """
    if root is None:
        sources = tuple(_sources(Path(sysconfig.get_path("stdlib"))))
        texts = parsed_once(sources, _parsed)
    else:
        texts = _parsed(tuple(_sources(root)))
    if not texts:
        raise DataError(
            f"no Python sources with docstrings in {root or sysconfig.get_path('stdlib')}: this Python was "
            "installed without them; "
            "choose task classification or lm and give data of your own"
        )
    return gather(tuple(texts), [AREA_OF[module] for module in texts.values()], tuple(texts.values()))


def plain(root: Path | None = None) -> Examples:
    """The same docstrings without labels, for language modelling."""
    labelled = topics(root)
    return Examples(texts=labelled.texts, labels=None, groups=labelled.groups, keys=labelled.keys)


def _sources(root: Path) -> Iterator[tuple[str, Path]]:
    """The top-level module and path of every source file of a module with an area, in order."""
    for top in sorted(root.iterdir()) if root.is_dir() else ():
        module = top.name.removesuffix(".py")
        if module in AREA_OF:
            for path in [top] if top.is_file() else sorted(top.rglob("*.py")):
                if SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts):
                    yield module, path
        elif top.suffix == ".py" and module not in LEFT_OUT:
            log.debug("the module %s has no area and is left out of the corpus", module)


def _parsed(sources: Sources) -> Texts:
    """Every docstring with the first module that has it."""
    texts: Texts = {}
    for module, path in sources:
        for text in _docstrings(path):
            texts.setdefault(text, module)
    return texts


def _docstrings(path: Path) -> Iterator[str]:
    """Every docstring of at least MIN_WORDS words in a file, with white space collapsed."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError) as error:
        log.debug("%s is left out of the corpus: %s", path, error)
        return
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = (ast.get_docstring(node, clean=False) or "").split()
            if len(words) >= MIN_WORDS:
                yield " ".join(words)
        waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]

"""The structure of the packages: names of classes, and the number of modules side by side."""

import re
from collections import Counter, defaultdict
from pathlib import Path

PACKAGES = ("channel", "splitfl", "testbed", "experiments")
MODULES = [path for package in PACKAGES for path in Path(package).rglob("*.py")]
MOST_SIDE_BY_SIDE = 22


def test_each_public_class_has_a_name_of_its_own():
    places = defaultdict(list)
    for path in MODULES:
        for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE):
            places[name].append(str(path))
    assert places
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_package_has_many_modules_side_by_side():
    counts = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {str(folder): count for folder, count in counts.items() if count > MOST_SIDE_BY_SIDE} == {}


def test_process_groups_are_used_by_bodies_on_several_ranks_and_by_the_rpc_transport_alone():
    users = {
        str(path.parent)
        for path in Path("splitfl").rglob("*.py")
        if re.search(r"^\s*(import|from) torch\.distributed", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert users == {"splitfl/parallel", "splitfl/transport/rpc"}

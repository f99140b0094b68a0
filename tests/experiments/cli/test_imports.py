import gc
import importlib

import pytest

from experiments.cli.imports import without_collections


def test_garbage_is_collected_again_after_an_import_that_failed() -> None:
    assert gc.isenabled()
    with pytest.raises(ImportError), without_collections():
        importlib.import_module("no_such_module")
    assert gc.isenabled()


def test_collections_that_were_off_stay_off() -> None:
    gc.disable()
    try:
        with without_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()

"""The package as installed: its names, its classes, its documentation."""

from __future__ import annotations

import copy
import importlib.metadata
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

import libflags
import libflags._libflags as native

from support import flag

CLASSES = [libflags.Client, libflags.Snapshot, libflags.Flag, libflags.Details, libflags.Status]


def test_it_is_the_installed_package() -> None:
    assert "site-packages" in (libflags.__file__ or "")
    assert importlib.metadata.version("libflags") == libflags.__version__
    assert Path(libflags.__file__ or "").with_name("py.typed").exists()


def test_all_names_are_exported() -> None:
    assert libflags.__all__ == sorted(libflags.__all__)
    public = {name for name in vars(native) if not name.startswith("_")} | {"__version__"}
    assert set(libflags.__all__) == public
    for name in libflags.__all__:
        assert getattr(libflags, name) is getattr(native, name)


def test_methods_are_the_native_ones() -> None:
    assert inspect.ismethoddescriptor(libflags.Client.get_boolean_value)
    assert str(inspect.signature(libflags.Client.get_boolean_value)) == "(self, /, key, default, context=None)"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_everything_public_is_documented(kind: type) -> None:
    assert kind.__module__ == "libflags"
    assert kind.__doc__
    for name, member in vars(kind).items():
        if not name.startswith("_"):
            assert member.__doc__, f"{kind.__name__}.{name}"


def test_errors_are_one_family() -> None:
    for name in ("StoreNotFound", "NothingPublished", "UntrustedStore", "CorruptStore", "UnknownFormat", "InvalidDefinition", "IoError"):
        error = getattr(libflags, name)
        assert issubclass(error, libflags.Error) and error.__module__ == "libflags" and error.__doc__
    assert libflags.Error.__base__ is Exception


def test_objects_are_immutable_and_belong_to_their_process(client_of: Callable[..., libflags.Client]) -> None:
    client = client_of({"bool": flag(True)})
    for thing in (client, client.snapshot(), client.flag("bool"), client.status()):
        with pytest.raises(AttributeError):
            thing.mine = 1  # type: ignore[union-attr]
        with pytest.raises(TypeError):
            pickle.dumps(thing)
        with pytest.raises(TypeError):
            copy.copy(thing)
    for kind in CLASSES:
        with pytest.raises(TypeError):
            type("Mine", (kind,), {})
    assert client.flag("bool").key == "bool"
    assert repr(client.flag("bool")) == "<libflags.Flag 'bool'>"

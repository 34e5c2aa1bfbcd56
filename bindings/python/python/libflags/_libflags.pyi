"""The native part of libflags. Import its names from :mod:`libflags`.

**Evaluating never raises for content.** An unknown key, a flag of another type, a broken rule, a store that is not there yet,
an attribute that cannot be read: the caller's ``default`` is returned, and the ``*_details`` methods say why. Arguments of the wrong type (a key
that is no ``str``, a context that is no mapping, a default of another type than the method's) raise ``TypeError``.

**The context** is a ``dict`` (fastest) or another mapping, of which only the attributes that the flag's rule names are read, in place.
``targetingKey`` is who the flag is decided for, usually a user's id. Values read as follows:

==============================================  =================================================================
``None``, ``bool``, ``str``, ``float``          what they are; a subclass (``StrEnum``, ``numpy.float64``) as its base
``int``                                         a whole number; beyond 64 bits the nearest double
``list``, ``tuple``, other sequences, sets      a list (a set in no particular order)
``dict`` and other mappings                     an object
``datetime``, ``date``, ``time``                ``isoformat()``'s text, as anything else with that method
``bytes``                                       text
what has ``__index__`` or ``__float__``         a number (``decimal.Decimal``, NumPy's scalars)
anything else                                   cannot be read: ``default``, with the error ``INVALID_CONTEXT``
==============================================  =================================================================

Text with lone surrogates is no valid UTF-8; it is read as the bytes that ``surrogatepass`` gives it.

**Threads, processes, forks.** All classes are immutable and may be used from any thread, also without the GIL. A client opened before ``fork`` goes on working in
every child, and sees each update there; there is nothing to reopen and no thread to restart. A client cannot be pickled: with ``multiprocessing``'s *spawn*
open one in each process.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, final

from typing_extensions import Self

__all__ = [
    "Client",
    "CorruptStore",
    "Details",
    "Error",
    "Flag",
    "InvalidDefinition",
    "IoError",
    "NothingPublished",
    "Snapshot",
    "Status",
    "StoreNotFound",
    "UnknownFormat",
    "UntrustedStore",
    "__version__",
]

__version__: Final[str]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Context: TypeAlias = Mapping[str, Any]
_Reason: TypeAlias = Literal["STATIC", "DEFAULT", "TARGETING_MATCH", "DISABLED", "ERROR"]
_ErrorCode: TypeAlias = Literal[
    "FLAG_NOT_FOUND",
    "TYPE_MISMATCH",
    "PARSE_ERROR",
    "GENERAL",
    "PROVIDER_NOT_READY",
    "INVALID_CONTEXT",
]

@final
class Client:
    """The flags of one flag set, as ``flagsd`` publishes them on this host.

    Opening maps the store's memory read-only; there is no thread and no connection, so one client opened at import time serves the whole program
    and every process forked from it.

    ``store`` is the set's directory; without it ``$FLAGS_STORE``, ``/run/flags/default``, ``$XDG_RUNTIME_DIR/flags/default`` and
    ``/dev/shm/flags-<uid>/default`` are tried in this order. With ``wait=False`` a store that is not there yet is no error: defaults are
    returned, with the error ``PROVIDER_NOT_READY``, until it appears. ``selector`` narrows the client to a flag set: ``"flagSetId=checkout"``, or
    ``"flagSetId="`` for the flags in none; any other raises ``ValueError``.

    Raises :class:`StoreNotFound` (naming every path tried), :class:`NothingPublished`, :class:`UntrustedStore`, :class:`CorruptStore`,
    :class:`UnknownFormat` or :class:`IoError`.
    """

    def __new__(
        cls, store: str | PathLike[str] | None = None, *, wait: bool = True, selector: str | None = None
    ) -> Self: ...
    @staticmethod
    def from_file(path: str | PathLike[str]) -> Client:
        """A client over a flag definition file (JSON, or YAML by its ending), without ``flagsd``: for tests and development.

        The file is compiled in this process, by the same compiler; :meth:`reload` reads it again. Raises :class:`InvalidDefinition` or
        :class:`IoError`.
        """

    def reload(self) -> list[str]:
        """Reads the file of :meth:`from_file` again and gives what is wrong with it, a line for each problem. Flags that broke stay in their
        last good form.

        Raises :class:`InvalidDefinition` or :class:`IoError`, and the flags read before stay in use; raises :class:`Error` for a client of a
        store, which follows that by itself.
        """

    def close(self) -> None:
        """Ends the use of this client: from now on every evaluation returns its default. Closing twice is fine.

        The memory is given back once nothing refers to the client, or to a snapshot or flag made from it.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Calls :meth:`close`."""

    def snapshot(self) -> Snapshot:
        """Pins the current version of all flags, so that many evaluations agree with each other.

        >>> with client.snapshot() as flags:
        ...     flags.get_boolean_value("new-checkout", False, context)
        """

    def flag(self, key: str) -> Flag:
        """The flag ``key`` as an object that remembers where it lies, for the hottest paths. It need not exist, now or ever."""

    def status(self) -> Status:
        """How fresh the flags are."""

    def get_boolean_value(self, key: str, default: bool, context: _Context | None = None) -> bool:
        """The flag's value, a boolean; ``default`` where there is none."""

    def get_string_value(self, key: str, default: str, context: _Context | None = None) -> str:
        """The flag's value, text; ``default`` where there is none."""

    def get_integer_value(self, key: str, default: int, context: _Context | None = None) -> int:
        """The flag's value, a whole number; ``default`` where there is none. A number flag whose value is not whole is a ``TYPE_MISMATCH``."""

    def get_float_value(self, key: str, default: float, context: _Context | None = None) -> float:
        """The flag's value, a number; ``default`` where there is none."""

    def get_object_value(self, key: str, default: _T, context: _Context | None = None) -> dict[str, Any] | list[Any] | _T:
        """The flag's value, an object or array; ``default`` where there is none. Each call makes a new ``dict`` or ``list``: changing it changes no other."""

    def get_boolean_details(
        self, key: str, default: bool, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[bool]:
        """As :meth:`get_boolean_value`, with variant, reason, error and metadata."""

    def get_string_details(
        self, key: str, default: str, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[str]:
        """As :meth:`get_string_value`, with variant, reason, error and metadata."""

    def get_integer_details(
        self, key: str, default: int, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[int]:
        """As :meth:`get_integer_value`, with variant, reason, error and metadata."""

    def get_float_details(
        self, key: str, default: float, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[float]:
        """As :meth:`get_float_value`, with variant, reason, error and metadata."""

    def get_object_details(
        self, key: str, default: _T, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[dict[str, Any] | list[Any] | _T]:
        """As :meth:`get_object_value`, with variant, reason, error and metadata."""


@final
class Snapshot:
    """One version of all flags. Made by :meth:`Client.snapshot`; outlives the client.

    While it is open the version's memory stays mapped: keep it for a request, not for the life of a process. After :meth:`close`, and
    at the end of its ``with`` block, every evaluation returns its default.
    """

    def close(self) -> None:
        """Lets go of the version. Closing twice is fine."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Calls :meth:`close`."""

    @property
    def generation(self) -> int:
        """The version's number in the store, which grows by one with each; 0 where there is none."""

    @property
    def revision(self) -> int:
        """The revision of the source it was made from; 0 where the source has none."""

    def keys(self) -> list[str]:
        """The keys of all flags, in no particular order."""

    def get_boolean_value(self, key: str, default: bool, context: _Context | None = None) -> bool:
        """The flag's value, a boolean; ``default`` where there is none."""

    def get_string_value(self, key: str, default: str, context: _Context | None = None) -> str:
        """The flag's value, text; ``default`` where there is none."""

    def get_integer_value(self, key: str, default: int, context: _Context | None = None) -> int:
        """The flag's value, a whole number; ``default`` where there is none. A number flag whose value is not whole is a ``TYPE_MISMATCH``."""

    def get_float_value(self, key: str, default: float, context: _Context | None = None) -> float:
        """The flag's value, a number; ``default`` where there is none."""

    def get_object_value(self, key: str, default: _T, context: _Context | None = None) -> dict[str, Any] | list[Any] | _T:
        """The flag's value, an object or array; ``default`` where there is none. Each call makes a new ``dict`` or ``list``: changing it changes no other."""

    def get_boolean_details(
        self, key: str, default: bool, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[bool]:
        """As :meth:`get_boolean_value`, with variant, reason, error and metadata."""

    def get_string_details(
        self, key: str, default: str, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[str]:
        """As :meth:`get_string_value`, with variant, reason, error and metadata."""

    def get_integer_details(
        self, key: str, default: int, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[int]:
        """As :meth:`get_integer_value`, with variant, reason, error and metadata."""

    def get_float_details(
        self, key: str, default: float, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[float]:
        """As :meth:`get_float_value`, with variant, reason, error and metadata."""

    def get_object_details(
        self, key: str, default: _T, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[dict[str, Any] | list[Any] | _T]:
        """As :meth:`get_object_value`, with variant, reason, error and metadata."""


@final
class Flag:
    """One flag of a client by its key. Made by :meth:`Client.flag`; follows updates."""

    @property
    def key(self) -> str:
        """The flag key."""

    def get_boolean_value(self, default: bool, context: _Context | None = None) -> bool:
        """The flag's value, a boolean; ``default`` where there is none."""

    def get_string_value(self, default: str, context: _Context | None = None) -> str:
        """The flag's value, text; ``default`` where there is none."""

    def get_integer_value(self, default: int, context: _Context | None = None) -> int:
        """The flag's value, a whole number; ``default`` where there is none. A number flag whose value is not whole is a ``TYPE_MISMATCH``."""

    def get_float_value(self, default: float, context: _Context | None = None) -> float:
        """The flag's value, a number; ``default`` where there is none."""

    def get_object_value(self, default: _T, context: _Context | None = None) -> dict[str, Any] | list[Any] | _T:
        """The flag's value, an object or array; ``default`` where there is none. Each call makes a new ``dict`` or ``list``: changing it changes no other."""

    def get_boolean_details(
        self, default: bool, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[bool]:
        """As :meth:`get_boolean_value`, with variant, reason, error and metadata."""

    def get_string_details(
        self, default: str, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[str]:
        """As :meth:`get_string_value`, with variant, reason, error and metadata."""

    def get_integer_details(
        self, default: int, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[int]:
        """As :meth:`get_integer_value`, with variant, reason, error and metadata."""

    def get_float_details(
        self, default: float, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[float]:
        """As :meth:`get_float_value`, with variant, reason, error and metadata."""

    def get_object_details(
        self, default: _T, context: _Context | None = None, *, targeting_key: object = None
    ) -> Details[dict[str, Any] | list[Any] | _T]:
        """As :meth:`get_object_value`, with variant, reason, error and metadata."""


@final
class Status:
    """How far a client's flags can be relied on to be current, at one moment. Made by :meth:`Client.status`."""

    @property
    def state(self) -> Literal["fresh", "stale", "frozen", "detached"]:
        """``"fresh"``: confirmed by their source within the maximum age. ``"stale"``: older, or somebody cannot keep up. ``"frozen"``: held at this
        generation on purpose. ``"detached"``: there are none yet."""

    @property
    def attached(self) -> bool:
        """Whether there are flags to answer from: the state is not ``"detached"``."""

    @property
    def path(self) -> Path | None:
        """Directory of the set; ``None`` while detached, and for :meth:`Client.from_file`."""

    @property
    def generation(self) -> int:
        """Number of the generation answered from; 0 while there is none."""

    @property
    def revision(self) -> int:
        """Revision of the source that generation was made from; 0 where sources have none."""

    @property
    def published_at(self) -> float | None:
        """When that generation was published, in seconds since 1970, as :func:`time.time` counts."""

    @property
    def confirmed_at(self) -> float | None:
        """When its source last confirmed it to be current, in seconds since 1970; ``None`` for never."""

    @property
    def age_seconds(self) -> float | None:
        """Seconds since it was last confirmed (published, where it never was); ``None`` while there is none."""

    @property
    def max_age_seconds(self) -> float | None:
        """Age in seconds past which it is stale; ``None`` for never."""

    @property
    def daemon_alive(self) -> bool:
        """Whether the publisher gave a sign of life lately."""

    @property
    def last_error(self) -> str | None:
        """Why the newest generation, or the store, could not be used; ``None`` when all is well."""

    @property
    def generations_mapped(self) -> int:
        """Generations that this process holds in memory for this client: the current one and those that are pinned."""

@final
class Details(Generic[_T_co]):
    """An evaluation's answer and the reason for it, with the fields of OpenFeature's ``FlagEvaluationDetails``."""

    @property
    def flag_key(self) -> str:
        """The key that was asked for."""

    @property
    def value(self) -> _T_co:
        """The flag's value, or the caller's default."""

    @property
    def variant(self) -> str | None:
        """The name of the variant; ``None`` where the caller's default stands."""

    @property
    def reason(self) -> _Reason:
        """Why, in OpenFeature's words."""

    @property
    def error_code(self) -> _ErrorCode | None:
        """What went wrong, where the reason is ``ERROR``."""

    @property
    def error_message(self) -> str | None:
        """The same for people."""

    @property
    def flag_metadata(self) -> dict[str, bool | int | float | str]:
        """The flag set's metadata overlaid by the flag's own."""

    @classmethod
    def __class_getitem__(cls, key: Any) -> Any: ...

class Error(Exception):
    """What everything raised by libflags derives from. Evaluating raises none of it."""

class StoreNotFound(Error):
    """No store was found; the text names every path tried and why it was not used."""

class NothingPublished(Error):
    """There is a store, but no version has been published in it yet."""

class UntrustedStore(Error):
    """A file of the store could be written by somebody who has no business with it."""

class CorruptStore(Error):
    """The bytes of a file are not what they must be."""

class UnknownFormat(Error):
    """The store is of a format version that this library does not read."""

class InvalidDefinition(Error):
    """A flag definition cannot be read at all. (A single broken flag is no error: evaluating it says ``PARSE_ERROR``.)"""

class IoError(Error):
    """The operating system refused an operation on a file; the text names both."""

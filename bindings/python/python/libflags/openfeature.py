"""libflags as a provider of the OpenFeature SDK (``pip install 'libflags[openfeature]'``).

>>> from openfeature import api
>>> from libflags.openfeature import FlagsProvider
>>> api.set_provider_and_wait(FlagsProvider())
>>> api.get_client().get_boolean_value("new-checkout", False)

A provider set before ``fork`` goes on working in every child.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent, ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from libflags import Client, Details, Status

__all__ = ["FlagsProvider"]

_T = TypeVar("_T")


class FlagsProvider(AbstractProvider):
    """Answers OpenFeature's evaluations from the flags that ``flagsd`` publishes on this host.

    ``store`` and ``selector`` are those of :class:`libflags.Client`; a ``client`` opened elsewhere may be given instead, and stays its owner's to
    close. A store that is not there yet is no error: code defaults are served until it appears, and while initialising the SDK is told
    that the provider is not ready.

    **Events** are asked for by ``poll_seconds``, the time between two looks at the store: a daemon thread then emits ``PROVIDER_READY``,
    ``PROVIDER_STALE`` and ``PROVIDER_CONFIGURATION_CHANGED``. Without it there is no thread: evaluations see every change at once all the same. In a
    forked child the thread starts again with the first evaluation there.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        *,
        selector: str | None = None,
        client: Client | None = None,
        poll_seconds: float | None = None,
    ) -> None:
        super().__init__()
        if poll_seconds is not None and not poll_seconds > 0:
            raise ValueError(f"poll_seconds must be positive, not {poll_seconds}")
        self._store: Final = store
        self._selector: Final = selector
        self._owns_client: Final = client is None
        self._client = self._open() if client is None else client
        self._is_shut_down = False
        self._poll_seconds: Final = poll_seconds
        self._watch: _Watch | None = None
        self._watch_lock = threading.Lock()
        self._is_watching = False
        _providers.add(self)

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        if self._is_shut_down and self._owns_client:
            self._client = self._open()
        self._is_shut_down = False
        self._is_watching = self._poll_seconds is not None
        # Before the thread starts: what it sees first is what the SDK is told here.
        status = self._client.status()
        self._ensure_watch(status)
        if not status.attached:
            raise ProviderNotReadyError("no flag store has been published yet")

    def shutdown(self) -> None:
        self._is_watching = False
        with self._watch_lock:
            watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
        self._is_shut_down = True
        if self._owns_client:
            self._client.close()

    def get_metadata(self) -> Metadata:
        return Metadata(name="libflags")

    # The SDK's asynchronous methods are inherited: they call these, which never wait for anything.

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        if self._is_watching and self._watch is None:
            self._ensure_watch()
        attributes, targeting_key = _parts(evaluation_context)
        return _resolution(
            self._client.get_boolean_details(flag_key, default_value, attributes, targeting_key=targeting_key)
        )

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        if self._is_watching and self._watch is None:
            self._ensure_watch()
        attributes, targeting_key = _parts(evaluation_context)
        return _resolution(
            self._client.get_string_details(flag_key, default_value, attributes, targeting_key=targeting_key)
        )

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        if self._is_watching and self._watch is None:
            self._ensure_watch()
        attributes, targeting_key = _parts(evaluation_context)
        return _resolution(
            self._client.get_integer_details(flag_key, default_value, attributes, targeting_key=targeting_key)
        )

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        if self._is_watching and self._watch is None:
            self._ensure_watch()
        attributes, targeting_key = _parts(evaluation_context)
        return _resolution(
            self._client.get_float_details(flag_key, default_value, attributes, targeting_key=targeting_key)
        )

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        if self._is_watching and self._watch is None:
            self._ensure_watch()
        attributes, targeting_key = _parts(evaluation_context)
        return _resolution(
            self._client.get_object_details(flag_key, default_value, attributes, targeting_key=targeting_key)
        )

    def _open(self) -> Client:
        return Client(self._store, wait=False, selector=self._selector)

    def _ensure_watch(self, seen: Status | None = None) -> None:
        with self._watch_lock:
            if self._is_watching and self._watch is None and self._poll_seconds is not None:
                self._watch = _Watch(self, self._client, seen or self._client.status(), self._poll_seconds)

    def _forget_watch(self) -> None:
        """In a forked child, which has neither the thread nor whoever may have held the lock."""
        self._watch_lock = threading.Lock()
        self._watch = None


class _Watch:
    """Looks at the store from time to time and tells the SDK what changed. Holds its provider weakly."""

    def __init__(self, provider: FlagsProvider, client: Client, seen: Status, poll_seconds: float) -> None:
        self._provider: Final = weakref.ref(provider)
        self._client: Final = client
        self._poll_seconds: Final = poll_seconds
        self._stopped: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, args=(seen,), name="libflags-events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        # An event handler may shut the provider down, from this very thread.
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self, seen: Status) -> None:
        while not self._stopped.wait(self._poll_seconds):
            status = self._client.status()
            for event, message in _changes(seen, status):
                provider = self._provider()
                if provider is None or self._stopped.is_set():
                    return
                provider.emit(
                    event,
                    ProviderEventDetails(
                        message=message, metadata={"generation": status.generation, "revision": status.revision}
                    ),
                )
                del provider
            seen = status


def _changes(before: Status, now: Status) -> list[tuple[ProviderEvent, str]]:
    events = []
    if now.attached and not before.attached:
        events.append((ProviderEvent.PROVIDER_READY, "the store has appeared"))
    elif now.generation != before.generation:
        events.append((ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, f"generation {now.generation} is in use"))
    if now.state == "stale" and before.state != "stale":
        events.append((ProviderEvent.PROVIDER_STALE, "the flags are older than their maximum age"))
    elif now.attached and before.state == "stale" and now.state != "stale":
        events.append((ProviderEvent.PROVIDER_READY, "the flags are fresh again"))
    return events


def _parts(context: EvaluationContext | None) -> tuple[Mapping[str, object] | None, str | None]:
    return (None, None) if context is None else (context.attributes, context.targeting_key)


def _resolution(details: Details[_T]) -> FlagResolutionDetails[_T]:
    error_code = details.error_code
    return FlagResolutionDetails(
        value=details.value,
        error_code=None if error_code is None else _ERROR_CODES.get(error_code, ErrorCode.GENERAL),
        error_message=details.error_message,
        reason=_REASONS.get(details.reason, details.reason),
        variant=details.variant,
        flag_metadata=details.flag_metadata,
    )


_REASONS: Final[Mapping[str, Reason]] = {reason.value: reason for reason in Reason}
_ERROR_CODES: Final[Mapping[str, ErrorCode]] = {code.value: code for code in ErrorCode}

_providers: Final[weakref.WeakSet[FlagsProvider]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for provider in _providers:
        provider._forget_watch()


os.register_at_fork(after_in_child=_after_fork_in_child)

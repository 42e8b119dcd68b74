"""Who is calling: checked before every call, whatever the connection was allowed before.

grpcio lets a connection outlive its certificate, knows no revocation, and would serve any method of a port to any
peer that the CA signed. So each port has a gate: an interceptor that turns the peer's certificate into a `Caller` or
refuses, and every `TowpathError` of a servicer into a status. A refused role is audited, at most once a minute per
peer.

    InputError   INVALID_ARGUMENT, or NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION by its code
    Refusal      PERMISSION_DENIED; UNAUTHENTICATED where the certificate or token itself is the trouble
    Unavailable  UNAVAILABLE, or RESOURCE_EXHAUSTED by its code
    Broken       INTERNAL

Details carry the one-line message, trailing metadata `towpath-code` the stable code.
"""

import asyncio
import inspect
import logging
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import grpc

from towpath import pki
from towpath.errors import InputError, Refusal, TowpathError, Unavailable
from towpath_server.domain import hosts
from towpath_server.domain.limits import Rate, take
from towpath_server.services import identities
from towpath_server.services.authority import serial_text
from towpath_server.services.context import Context, HostEntry, note
from towpath_server.services.thread import StorageThread

CODE_KEY = "towpath-code"
MAX_DETAILS = 1000
AGENT_RATE = Rate(interval_ms=20, burst=200)
ENROLMENT_RATE = Rate(interval_ms=10, burst=500)
FETCH = "/Fetch"
_AUDIT_PAUSE_MS = 60_000
_KEPT_IDENTITIES = 20_000
_BY_CODE = {
    "not-found": grpc.StatusCode.NOT_FOUND,
    "exists": grpc.StatusCode.ALREADY_EXISTS,
    "impossible": grpc.StatusCode.FAILED_PRECONDITION,
    "rate-limit": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "token-unknown": grpc.StatusCode.UNAUTHENTICATED,
    "token-expired": grpc.StatusCode.UNAUTHENTICATED,
    "token-used": grpc.StatusCode.UNAUTHENTICATED,
    "expired": grpc.StatusCode.UNAUTHENTICATED,
    "no-certificate": grpc.StatusCode.UNAUTHENTICATED,
}

logger = logging.getLogger(__name__)
ServicerContext = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose certificate made the call. `entry` is a host's, at the moment of the call."""

    role: str
    name: str
    serial: str
    key_sha256: bytes
    not_after_unix_ms: int
    entry: HostEntry | None = None

    @property
    def actor(self) -> str:
        """Return the caller as the audit log names it."""
        return f"{self.role}/{self.name}"


CALLER: ContextVar[Caller] = ContextVar("CALLER")


def status_of(error: TowpathError) -> grpc.StatusCode:
    """Return the gRPC status of an error; see the module."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    if isinstance(error, InputError):
        return grpc.StatusCode.INVALID_ARGUMENT
    if isinstance(error, Refusal):
        return grpc.StatusCode.PERMISSION_DENIED
    return grpc.StatusCode.UNAVAILABLE if isinstance(error, Unavailable) else grpc.StatusCode.INTERNAL


class Identities:
    """Peers' certificates, parsed once each. TLS has checked that our CA signed them."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Caller] = OrderedDict()

    def caller(self, context: ServicerContext) -> Caller:
        """Return the peer; Refusal where it shows no certificate or one without a role."""
        pem = _shown(context)
        if not pem:
            raise Refusal("cannot answer: this port needs a client certificate", code="no-certificate")
        caller = self._known.get(pem)
        if caller is None:
            identity = pki.identity(pem)
            caller = Caller(
                identity.role, identity.name, serial_text(identity.serial), identity.key_sha256, identity.not_after_ms
            )
            self._known[pem] = caller
            if len(self._known) > _KEPT_IDENTITIES:
                self._known.popitem(last=False)
        return caller


def _shown(context: ServicerContext) -> bytes:
    values: Iterable[bytes] = context.auth_context().get("x509_pem_cert") or ()
    return next(iter(values), b"")


# grpcio's own name for a method's handler; its stubs make it generic, the class is not.
Handler = Any


class Gate(grpc.aio.ServerInterceptor, ABC):
    """Wraps every method of one port."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread
        self._wrapped: dict[str, Handler] = {}

    @abstractmethod
    async def admit(self, call: ServicerContext, method: str) -> Caller:
        """Return who calls; raise where that may not be."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the method's handler behind this gate."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            inner = await continuation(handler_call_details)
            if inner is None:
                return None
            wrapped = self._wrap(method, inner)
            self._wrapped[method] = wrapped
        return wrapped

    def _wrap(self, method: str, inner: Any) -> Handler:
        behaviour = inner.unary_unary or inner.unary_stream or inner.stream_unary or inner.stream_stream
        streams = bool(inner.response_streaming)

        async def guarded(request: Any, call: ServicerContext) -> Any:
            try:
                CALLER.set(await self.admit(call, method))
                result = behaviour(request, call)
                if not streams:
                    return await result
                if inspect.isasyncgen(result):
                    async for message in result:
                        await _write(call, message)
                else:
                    await result
            except TowpathError as error:
                await abort(call, status_of(error), str(error), error.code)
            except grpc.aio.AbortError:
                raise
            except Exception:
                logger.exception("cannot answer %s", method)
                await abort(call, grpc.StatusCode.INTERNAL, "cannot answer: the server failed; see its log", "internal")
            return None

        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[bool(inner.request_streaming), streams]
        return make(guarded, inner.request_deserializer, inner.response_serializer)


async def _write(call: ServicerContext, message: Any) -> None:
    try:
        await call.write(message)
    except grpc.aio.InternalError as error:
        # The line is gone while this waited for it, which a write may know before the call does. On a bad line that is
        # so all day, and no fault of the server's.
        raise asyncio.CancelledError from error


async def abort(call: ServicerContext, status: grpc.StatusCode, message: str, code: str) -> None:
    """End a call with a status, a one-line message and our code."""
    await call.abort(status, " ".join(message.split())[:MAX_DETAILS], ((CODE_KEY, code),))


class RoleGate(Gate):
    """A port for one role of certificates."""

    role = ""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        super().__init__(context, thread)
        self._identities = Identities()
        self._audited: dict[str, int] = {}

    async def admit(self, call: ServicerContext, method: str) -> Caller:
        """Return the caller where its certificate is of this port's role and has not expired."""
        caller = self._identities.caller(call)
        now = self._context.clock.now_unix_ms()
        if caller.role != self.role:
            await self._audit(caller, method, now)
            raise Refusal(
                f"cannot answer: this port is for {self.role}s, the certificate is {caller.actor}'s", code="wrong-role"
            )
        if caller.not_after_unix_ms <= now:
            raise Refusal("cannot answer: the certificate has expired", code="expired")
        return caller

    async def _audit(self, caller: Caller, method: str, now: int) -> None:
        if now - self._audited.get(caller.actor, 0) < _AUDIT_PAUSE_MS:
            return
        self._audited[caller.actor] = now
        detail = f"wrong-role: this port is for {self.role}s"
        await self._thread.run(note, self._context, caller.actor, "call", method, detail=detail, outcome="refused")


class OperatorGate(RoleGate):
    """Operators: any certificate of that role."""

    role = "operator"


class AgentGate(RoleGate):
    """Hosts: known, active, with the newest certificate, and not too often."""

    role = "host"

    def __init__(self, context: Context, thread: StorageThread) -> None:
        super().__init__(context, thread)
        self._rates: dict[str, float] = {}

    async def admit(self, call: ServicerContext, method: str) -> Caller:
        """Return the host where it may speak."""
        caller = await super().admit(call, method)
        now = self._context.clock.now_unix_ms()
        entry = self._context.cache.entries.get(caller.name) or await self._load(caller.name)
        if entry is not None and hosts.renewed_in_lost_time(
            entry.host, serial=caller.serial, not_after_unix_ms=caller.not_after_unix_ms, lost=self._context.lost
        ):
            await self._thread.run(identities.take_back, self._context, _shown(call))
            entry = await self._load(caller.name)
        host = hosts.check_caller(
            entry.host if entry is not None else None,
            serial=caller.serial,
            not_after_unix_ms=caller.not_after_unix_ms,
            now_unix_ms=now,
        )
        if hosts.first_use(host, caller.serial) is not None:
            await self._thread.run(identities.used, self._context, host.id, caller.serial)
            entry = await self._load(host.id)
        due = take(AGENT_RATE, self._rates.get(host.id, 0.0), self._context.clock.monotonic_ms())
        if due is None:
            raise Unavailable(f"cannot answer {host.name}: it calls too often; slow down", code="rate-limit")
        self._rates[host.id] = due
        # A relay fetches with the certificate of the host that it runs on, whose agent may be dead.
        if not method.endswith(FETCH) and self._context.presence.seen(host.id, now):
            self._context.hints.due(host.environment)
        return replace(caller, entry=entry)

    async def refreshed(self, caller: Caller) -> Caller:
        """Return the caller of a long stream as it stands now; Refusal where it may not go on."""
        entry = self._context.cache.entries.get(caller.name) or await self._load(caller.name)
        hosts.check_caller(
            entry.host if entry is not None else None,
            serial=caller.serial,
            not_after_unix_ms=caller.not_after_unix_ms,
            now_unix_ms=self._context.clock.now_unix_ms(),
        )
        return replace(caller, entry=entry)

    async def _load(self, host_id: str) -> HostEntry | None:
        return await self._thread.run(load_entry, self._context, host_id)


def load_entry(context: Context, host_id: str) -> HostEntry | None:
    """Return a host's entry from the storage. On the storage thread."""
    with context.storage.transaction() as tx:
        return context.entry(tx, host_id)


class EnrolmentGate(Gate):
    """Machines that have no certificate yet: only their rate, all together, is limited."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        super().__init__(context, thread)
        self._due = 0.0

    async def admit(self, _call: ServicerContext, _method: str) -> Caller:
        """Return a caller without a name."""
        due = take(ENROLMENT_RATE, self._due, self._context.clock.monotonic_ms())
        if due is None:
            raise Unavailable("cannot answer: too many enrolments at once; try again in a while", code="rate-limit")
        self._due = due
        return Caller("nobody", "", "", b"", 0)

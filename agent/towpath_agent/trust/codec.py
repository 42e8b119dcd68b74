"""Requests, results and errors as frames. Field by field; no pickling: frames carry data, never code."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from towpath.dsse import Keys
from towpath.errors import Broken, InputError, Refusal, TowpathError, Unavailable
from towpath.manifest import DesiredApp, HostFacts, ManifestFloor
from towpath.parameters import Value
from towpath.wire import decode_manifest
from towpath_agent.errors import DiskError, DiskFull
from towpath_agent.trust.frames import Frame
from towpath_agent.trust.model import AdmittedApp, RefusedApp, VerifyRequest, VerifyResult

_ERRORS: dict[str, type[TowpathError]] = {
    kind.__name__: kind for kind in (InputError, Refusal, Unavailable, DiskFull, DiskError, Broken)
}
_MESSAGE_CHARS = 1000
# Frames of verdicts: admitted, refused; of what is to run, and of what is only announced.
APP_KINDS = ("admitted", "refused")
PREFETCH_KINDS = ("prefetch", "prefetch-refused")
RESULT_KINDS = (*APP_KINDS, *PREFETCH_KINDS, "result")


def to_request_frame(request: VerifyRequest) -> Frame:
    """Return the frame of a request."""
    fields: dict[str, Any] = {
        "metadata_dir": request.metadata_dir,
        "nonce": None if request.nonce is None else request.nonce.hex(),
        "host_id": request.facts.host_id,
        "host_key_sha256": request.facts.host_key_sha256.hex(),
        "environment": request.facts.environment,
        "platform": request.facts.platform,
        "manifest_floor": _from_floor(request.manifest_floor),
        "role_floors": dict(request.role_floors),
        "release_floors": dict(request.release_floors),
        "now_unix_ms": request.now_unix_ms,
        "time_floor_unix_ms": request.time_floor_unix_ms,
    }
    return Frame("verify", fields, (request.root, request.envelope, request.bundle))


def from_request_frame(frame: Frame) -> VerifyRequest:
    """Return the request in a frame; Broken where it is none."""
    if frame.kind != "verify" or len(frame.blobs) != 3:
        raise Broken(f"cannot verify: a {frame.kind[:20]!r} frame came instead of a request")
    it = frame.fields
    return VerifyRequest(
        metadata_dir=it["metadata_dir"],
        root=frame.blobs[0],
        envelope=frame.blobs[1],
        nonce=None if it["nonce"] is None else bytes.fromhex(it["nonce"]),
        facts=HostFacts(it["host_id"], bytes.fromhex(it["host_key_sha256"]), it["environment"], it["platform"]),
        manifest_floor=_to_floor(it["manifest_floor"]),
        role_floors=it["role_floors"],
        release_floors=it["release_floors"],
        now_unix_ms=it["now_unix_ms"],
        time_floor_unix_ms=it["time_floor_unix_ms"],
        bundle=frame.blobs[2],
    )


def to_result_frames(result: VerifyResult) -> Iterator[Frame]:
    """Yield one frame per app and a last one; an app is named by its place in the manifest."""
    manifest = decode_manifest(result.manifest)
    yield from _verdicts(APP_KINDS, manifest.apps, result.apps, result.refused)
    yield from _verdicts(PREFETCH_KINDS, manifest.prefetch, result.prefetch, result.prefetch_refused)
    yield Frame(
        "result",
        {
            "role_floors": dict(result.role_floors),
            "manifest_floor": _from_floor(result.manifest_floor),
            "director": {keyid: key.hex() for keyid, key in result.director.keys.items()},
            "threshold": result.director.threshold,
            "expires_unix_ms": result.expires_unix_ms,
            "time_floor_unix_ms": result.time_floor_unix_ms,
        },
        (result.manifest,),
    )


def _verdicts(
    kinds: tuple[str, str],
    named: Sequence[DesiredApp],
    admitted: Iterable[AdmittedApp],
    refused: Iterable[RefusedApp],
) -> Iterator[Frame]:
    places = {desired.app: place for place, desired in enumerate(named)}
    for yes in admitted:
        fields = {"place": places[yes.desired.app], "parameters": dict(yes.parameters)}
        yield Frame(kinds[0], fields, (yes.release,))
    for no in refused:
        yield Frame(kinds[1], {"place": places[no.desired.app], "code": no.code, "message": no.message})


def _admitted(kind: str, named: Sequence[DesiredApp], frames: Iterable[Frame]) -> tuple[AdmittedApp, ...]:
    return tuple(
        AdmittedApp(named[frame.fields["place"]], frame.blobs[0], _to_values(frame.fields["parameters"]))
        for frame in frames
        if frame.kind == kind
    )


def _refused(kind: str, named: Sequence[DesiredApp], frames: Iterable[Frame]) -> tuple[RefusedApp, ...]:
    return tuple(
        RefusedApp(named[frame.fields["place"]], frame.fields["code"], frame.fields["message"])
        for frame in frames
        if frame.kind == kind
    )


def from_result_frames(frames: list[Frame]) -> VerifyResult:
    """Return the result in a child's frames, the last of which is `result`."""
    last = frames[-1]
    manifest = decode_manifest(last.blobs[0])
    it = last.fields
    return VerifyResult(
        manifest=last.blobs[0],
        apps=_admitted(APP_KINDS[0], manifest.apps, frames),
        refused=_refused(APP_KINDS[1], manifest.apps, frames),
        prefetch=_admitted(PREFETCH_KINDS[0], manifest.prefetch, frames),
        prefetch_refused=_refused(PREFETCH_KINDS[1], manifest.prefetch, frames),
        role_floors=it["role_floors"],
        manifest_floor=_to_floor(it["manifest_floor"]),
        director=Keys({keyid: bytes.fromhex(key) for keyid, key in it["director"].items()}, it["threshold"]),
        expires_unix_ms=it["expires_unix_ms"],
        time_floor_unix_ms=it["time_floor_unix_ms"],
    )


def to_error_frame(error: TowpathError) -> Frame:
    """Return the frame of an error."""
    kind = next(name for name, known in _ERRORS.items() if isinstance(error, known))
    return Frame("error", {"kind": kind, "code": error.code, "message": str(error)[:_MESSAGE_CHARS]})


def raise_error_frame(frame: Frame) -> NoReturn:
    """Raise the error in a frame; Broken where it holds none."""
    kind = _ERRORS.get(str(frame.fields.get("kind"))) if frame.kind == "error" else None
    if kind is None:
        raise Broken(f"cannot verify: a {frame.kind[:20]!r} frame came out of order")
    raise kind(frame.fields["message"], code=frame.fields["code"])


def _from_floor(floor: ManifestFloor) -> dict[str, Any]:
    return {
        "sequence": floor.sequence,
        "payload_sha256": floor.payload_sha256.hex(),
        "director_keys": sorted(floor.director_keys),
    }


def _to_floor(it: dict[str, Any]) -> ManifestFloor:
    return ManifestFloor(it["sequence"], bytes.fromhex(it["payload_sha256"]), frozenset(it["director_keys"]))


def _to_values(it: dict[str, Any]) -> dict[str, Value]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in it.items()}

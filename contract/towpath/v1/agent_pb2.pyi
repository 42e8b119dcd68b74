from towpath.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnrollRequest(_message.Message):
    __slots__ = ("token_id", "token_secret", "name", "csr_der", "platform", "agent_version")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SECRET_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    token_id: str
    token_secret: bytes
    name: str
    csr_der: bytes
    platform: str
    agent_version: str
    def __init__(self, token_id: _Optional[str] = ..., token_secret: _Optional[bytes] = ..., name: _Optional[str] = ..., csr_der: _Optional[bytes] = ..., platform: _Optional[str] = ..., agent_version: _Optional[str] = ...) -> None: ...

class EnrollResponse(_message.Message):
    __slots__ = ("host_id", "name", "environment", "certificate_pem", "ca_pem", "root_json", "agent_address")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    CA_PEM_FIELD_NUMBER: _ClassVar[int]
    ROOT_JSON_FIELD_NUMBER: _ClassVar[int]
    AGENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    name: str
    environment: str
    certificate_pem: bytes
    ca_pem: bytes
    root_json: bytes
    agent_address: str
    def __init__(self, host_id: _Optional[str] = ..., name: _Optional[str] = ..., environment: _Optional[str] = ..., certificate_pem: _Optional[bytes] = ..., ca_pem: _Optional[bytes] = ..., root_json: _Optional[bytes] = ..., agent_address: _Optional[str] = ...) -> None: ...

class RecoverRequest(_message.Message):
    __slots__ = ("certificate_pem", "csr_der", "at_unix_ms", "signature")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: bytes
    csr_der: bytes
    at_unix_ms: int
    signature: bytes
    def __init__(self, certificate_pem: _Optional[bytes] = ..., csr_der: _Optional[bytes] = ..., at_unix_ms: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr_der",)
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    csr_der: bytes
    def __init__(self, csr_der: _Optional[bytes] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("certificate_pem", "ca_pem")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    CA_PEM_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: bytes
    ca_pem: bytes
    def __init__(self, certificate_pem: _Optional[bytes] = ..., ca_pem: _Optional[bytes] = ...) -> None: ...

class SyncRequest(_message.Message):
    __slots__ = ("nonce", "state_revision", "agent_version", "platform", "boot_id", "accepted_sequence", "holds", "features")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    STATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    state_revision: int
    agent_version: str
    platform: str
    boot_id: str
    accepted_sequence: int
    holds: _containers.RepeatedCompositeFieldContainer[_types_pb2.Hold]
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, nonce: _Optional[bytes] = ..., state_revision: _Optional[int] = ..., agent_version: _Optional[str] = ..., platform: _Optional[str] = ..., boot_id: _Optional[str] = ..., accepted_sequence: _Optional[int] = ..., holds: _Optional[_Iterable[_Union[_types_pb2.Hold, _Mapping]]] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

class SyncResponse(_message.Message):
    __slots__ = ("envelope", "known_state_revision", "keep")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    KNOWN_STATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    known_state_revision: int
    keep: str
    def __init__(self, envelope: _Optional[bytes] = ..., known_state_revision: _Optional[int] = ..., keep: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: int
    def __init__(self, change: _Optional[int] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("wants", "direct_from", "packed", "waits")
    WANTS_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FROM_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    wants: _containers.RepeatedCompositeFieldContainer[Want]
    direct_from: _containers.RepeatedScalarFieldContainer[str]
    packed: bool
    waits: bool
    def __init__(self, wants: _Optional[_Iterable[_Union[Want, _Mapping]]] = ..., direct_from: _Optional[_Iterable[str]] = ..., packed: _Optional[bool] = ..., waits: _Optional[bool] = ...) -> None: ...

class Want(_message.Message):
    __slots__ = ("metadata", "target", "object_sha256", "delta", "offset")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OBJECT_SHA256_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    metadata: str
    target: str
    object_sha256: bytes
    delta: Delta
    offset: int
    def __init__(self, metadata: _Optional[str] = ..., target: _Optional[str] = ..., object_sha256: _Optional[bytes] = ..., delta: _Optional[_Union[Delta, _Mapping]] = ..., offset: _Optional[int] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("old_index_sha256", "new_index_sha256", "opened")
    OLD_INDEX_SHA256_FIELD_NUMBER: _ClassVar[int]
    NEW_INDEX_SHA256_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    old_index_sha256: bytes
    new_index_sha256: bytes
    opened: bool
    def __init__(self, old_index_sha256: _Optional[bytes] = ..., new_index_sha256: _Optional[bytes] = ..., opened: _Optional[bool] = ...) -> None: ...

class FetchResponse(_message.Message):
    __slots__ = ("want", "data", "last", "missing", "carried_size", "url", "whole", "unneeded")
    WANT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    CARRIED_SIZE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    UNNEEDED_FIELD_NUMBER: _ClassVar[int]
    want: int
    data: bytes
    last: bool
    missing: bool
    carried_size: int
    url: str
    whole: _containers.RepeatedScalarFieldContainer[int]
    unneeded: bool
    def __init__(self, want: _Optional[int] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ..., missing: _Optional[bool] = ..., carried_size: _Optional[int] = ..., url: _Optional[str] = ..., whole: _Optional[_Iterable[int]] = ..., unneeded: _Optional[bool] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("events", "apps", "state_revision")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    APPS_FIELD_NUMBER: _ClassVar[int]
    STATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_types_pb2.ReportEvent]
    apps: _containers.RepeatedCompositeFieldContainer[_types_pb2.AppState]
    state_revision: int
    def __init__(self, events: _Optional[_Iterable[_Union[_types_pb2.ReportEvent, _Mapping]]] = ..., apps: _Optional[_Iterable[_Union[_types_pb2.AppState, _Mapping]]] = ..., state_revision: _Optional[int] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("acknowledged",)
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    acknowledged: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, acknowledged: _Optional[_Iterable[str]] = ...) -> None: ...

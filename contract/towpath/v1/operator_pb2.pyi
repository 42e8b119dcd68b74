from towpath.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateTokenRequest(_message.Message):
    __slots__ = ("environment", "labels", "uses", "ttl_ms")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    environment: str
    labels: _containers.ScalarMap[str, str]
    uses: int
    ttl_ms: int
    def __init__(self, environment: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., uses: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class CreateTokenResponse(_message.Message):
    __slots__ = ("token", "expires_unix_ms")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    token: str
    expires_unix_ms: int
    def __init__(self, token: _Optional[str] = ..., expires_unix_ms: _Optional[int] = ...) -> None: ...

class Host(_message.Message):
    __slots__ = ("id", "name", "environment", "labels", "status", "online", "last_seen_unix_ms", "certificate_expires_unix_ms", "agent_version", "platform", "parameters", "holds", "own_parameters", "parameter_origins")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _types_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_types_pb2.Value, _Mapping]] = ...) -> None: ...
    class OwnParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ParameterOriginsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    OWN_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_ORIGINS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    environment: str
    labels: _containers.ScalarMap[str, str]
    status: str
    online: bool
    last_seen_unix_ms: int
    certificate_expires_unix_ms: int
    agent_version: str
    platform: str
    parameters: _containers.MessageMap[str, _types_pb2.Value]
    holds: _containers.RepeatedCompositeFieldContainer[_types_pb2.Hold]
    own_parameters: _containers.ScalarMap[str, str]
    parameter_origins: _containers.ScalarMap[str, str]
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., environment: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., status: _Optional[str] = ..., online: _Optional[bool] = ..., last_seen_unix_ms: _Optional[int] = ..., certificate_expires_unix_ms: _Optional[int] = ..., agent_version: _Optional[str] = ..., platform: _Optional[str] = ..., parameters: _Optional[_Mapping[str, _types_pb2.Value]] = ..., holds: _Optional[_Iterable[_Union[_types_pb2.Hold, _Mapping]]] = ..., own_parameters: _Optional[_Mapping[str, str]] = ..., parameter_origins: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListHostsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListHostsResponse(_message.Message):
    __slots__ = ("hosts",)
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    hosts: _containers.RepeatedCompositeFieldContainer[Host]
    def __init__(self, hosts: _Optional[_Iterable[_Union[Host, _Mapping]]] = ...) -> None: ...

class GetHostRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetHostResponse(_message.Message):
    __slots__ = ("host", "apps", "events")
    HOST_FIELD_NUMBER: _ClassVar[int]
    APPS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    host: Host
    apps: _containers.RepeatedCompositeFieldContainer[_types_pb2.AppState]
    events: _containers.RepeatedCompositeFieldContainer[_types_pb2.ReportEvent]
    def __init__(self, host: _Optional[_Union[Host, _Mapping]] = ..., apps: _Optional[_Iterable[_Union[_types_pb2.AppState, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[_types_pb2.ReportEvent, _Mapping]]] = ...) -> None: ...

class SetHostRequest(_message.Message):
    __slots__ = ("name", "parameters", "unset_parameters", "labels", "unset_labels")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    UNSET_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    UNSET_LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    parameters: _containers.ScalarMap[str, str]
    unset_parameters: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    unset_labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., unset_parameters: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., unset_labels: _Optional[_Iterable[str]] = ...) -> None: ...

class SetHostResponse(_message.Message):
    __slots__ = ("host", "notes")
    HOST_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    host: Host
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, host: _Optional[_Union[Host, _Mapping]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class RevokeHostRequest(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeHostResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WhyRequest(_message.Message):
    __slots__ = ("host", "app")
    HOST_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    host: str
    app: str
    def __init__(self, host: _Optional[str] = ..., app: _Optional[str] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("fact", "command")
    FACT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    fact: str
    command: str
    def __init__(self, fact: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class WhyResponse(_message.Message):
    __slots__ = ("reasons",)
    REASONS_FIELD_NUMBER: _ClassVar[int]
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    def __init__(self, reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ...) -> None: ...

class GetRepositoryRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MetadataFile(_message.Message):
    __slots__ = ("name", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    data: bytes
    def __init__(self, name: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class GetRepositoryResponse(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[MetadataFile]
    def __init__(self, files: _Optional[_Iterable[_Union[MetadataFile, _Mapping]]] = ...) -> None: ...

class FindMissingRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, sha256: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FindMissingResponse(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, sha256: _Optional[_Iterable[bytes]] = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("object_sha256", "size", "data", "last")
    OBJECT_SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    object_sha256: bytes
    size: int
    data: bytes
    last: bool
    def __init__(self, object_sha256: _Optional[bytes] = ..., size: _Optional[int] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class UploadResponse(_message.Message):
    __slots__ = ("stored",)
    STORED_FIELD_NUMBER: _ClassVar[int]
    stored: int
    def __init__(self, stored: _Optional[int] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("target_path", "release", "metadata")
    TARGET_PATH_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    target_path: str
    release: bytes
    metadata: _containers.RepeatedCompositeFieldContainer[MetadataFile]
    def __init__(self, target_path: _Optional[str] = ..., release: _Optional[bytes] = ..., metadata: _Optional[_Iterable[_Union[MetadataFile, _Mapping]]] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("snapshot_version",)
    SNAPSHOT_VERSION_FIELD_NUMBER: _ClassVar[int]
    snapshot_version: int
    def __init__(self, snapshot_version: _Optional[int] = ...) -> None: ...

class ListReleasesRequest(_message.Message):
    __slots__ = ("app",)
    APP_FIELD_NUMBER: _ClassVar[int]
    app: str
    def __init__(self, app: _Optional[str] = ...) -> None: ...

class ReleaseInfo(_message.Message):
    __slots__ = ("app", "version", "counter", "sha256", "published_unix_ms", "published_by")
    APP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_BY_FIELD_NUMBER: _ClassVar[int]
    app: str
    version: str
    counter: int
    sha256: bytes
    published_unix_ms: int
    published_by: str
    def __init__(self, app: _Optional[str] = ..., version: _Optional[str] = ..., counter: _Optional[int] = ..., sha256: _Optional[bytes] = ..., published_unix_ms: _Optional[int] = ..., published_by: _Optional[str] = ...) -> None: ...

class ListReleasesResponse(_message.Message):
    __slots__ = ("releases",)
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    releases: _containers.RepeatedCompositeFieldContainer[ReleaseInfo]
    def __init__(self, releases: _Optional[_Iterable[_Union[ReleaseInfo, _Mapping]]] = ...) -> None: ...

class WeighReleaseRequest(_message.Message):
    __slots__ = ("app", "version")
    APP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    app: str
    version: str
    def __init__(self, app: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class WeighReleaseResponse(_message.Message):
    __slots__ = ("unpacked", "carried", "objects", "ways")
    UNPACKED_FIELD_NUMBER: _ClassVar[int]
    CARRIED_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    WAYS_FIELD_NUMBER: _ClassVar[int]
    unpacked: int
    carried: int
    objects: int
    ways: _containers.RepeatedCompositeFieldContainer[WayToRelease]
    def __init__(self, unpacked: _Optional[int] = ..., carried: _Optional[int] = ..., objects: _Optional[int] = ..., ways: _Optional[_Iterable[_Union[WayToRelease, _Mapping]]] = ...) -> None: ...

class WayToRelease(_message.Message):
    __slots__ = ("version", "hosts", "objects", "delta", "no_delta")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    NO_DELTA_FIELD_NUMBER: _ClassVar[int]
    version: str
    hosts: int
    objects: int
    delta: int
    no_delta: str
    def __init__(self, version: _Optional[str] = ..., hosts: _Optional[int] = ..., objects: _Optional[int] = ..., delta: _Optional[int] = ..., no_delta: _Optional[str] = ...) -> None: ...

class DeployRequest(_message.Message):
    __slots__ = ("app", "version", "environment", "selector", "max_unavailable", "max_failures", "progress_deadline_ms", "whole_environment", "waves", "max_failure_share", "on_breach", "allow_empty", "windows", "at", "expires", "override_freeze", "offline_wait_ms", "newcomers", "approvers", "metrics", "budgets", "priority", "order", "prefetch")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    APP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    MAX_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    MAX_FAILURES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    WAVES_FIELD_NUMBER: _ClassVar[int]
    MAX_FAILURE_SHARE_FIELD_NUMBER: _ClassVar[int]
    ON_BREACH_FIELD_NUMBER: _ClassVar[int]
    ALLOW_EMPTY_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FREEZE_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    NEWCOMERS_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    app: str
    version: str
    environment: str
    selector: _containers.ScalarMap[str, str]
    max_unavailable: int
    max_failures: int
    progress_deadline_ms: int
    whole_environment: bool
    waves: _containers.RepeatedCompositeFieldContainer[Wave]
    max_failure_share: int
    on_breach: str
    allow_empty: bool
    windows: _containers.RepeatedScalarFieldContainer[str]
    at: str
    expires: str
    override_freeze: str
    offline_wait_ms: int
    newcomers: str
    approvers: _containers.RepeatedScalarFieldContainer[str]
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    budgets: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    order: str
    prefetch: bool
    def __init__(self, app: _Optional[str] = ..., version: _Optional[str] = ..., environment: _Optional[str] = ..., selector: _Optional[_Mapping[str, str]] = ..., max_unavailable: _Optional[int] = ..., max_failures: _Optional[int] = ..., progress_deadline_ms: _Optional[int] = ..., whole_environment: _Optional[bool] = ..., waves: _Optional[_Iterable[_Union[Wave, _Mapping]]] = ..., max_failure_share: _Optional[int] = ..., on_breach: _Optional[str] = ..., allow_empty: _Optional[bool] = ..., windows: _Optional[_Iterable[str]] = ..., at: _Optional[str] = ..., expires: _Optional[str] = ..., override_freeze: _Optional[str] = ..., offline_wait_ms: _Optional[int] = ..., newcomers: _Optional[str] = ..., approvers: _Optional[_Iterable[str]] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., budgets: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., order: _Optional[str] = ..., prefetch: _Optional[bool] = ...) -> None: ...

class Wave(_message.Message):
    __slots__ = ("what", "soak_ms", "manual", "approve", "metrics")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    SOAK_MS_FIELD_NUMBER: _ClassVar[int]
    MANUAL_FIELD_NUMBER: _ClassVar[int]
    APPROVE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    what: str
    soak_ms: int
    manual: bool
    approve: int
    metrics: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, what: _Optional[str] = ..., soak_ms: _Optional[int] = ..., manual: _Optional[bool] = ..., approve: _Optional[int] = ..., metrics: _Optional[_Iterable[str]] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "query", "below", "good", "bad", "patience_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    BELOW_FIELD_NUMBER: _ClassVar[int]
    GOOD_FIELD_NUMBER: _ClassVar[int]
    BAD_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    query: str
    below: bool
    good: float
    bad: float
    patience_ms: int
    def __init__(self, name: _Optional[str] = ..., query: _Optional[str] = ..., below: _Optional[bool] = ..., good: _Optional[float] = ..., bad: _Optional[float] = ..., patience_ms: _Optional[int] = ...) -> None: ...

class DeployResponse(_message.Message):
    __slots__ = ("assignment", "generation", "hosts", "unchanged", "version")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    generation: int
    hosts: int
    unchanged: bool
    version: str
    def __init__(self, assignment: _Optional[str] = ..., generation: _Optional[int] = ..., hosts: _Optional[int] = ..., unchanged: _Optional[bool] = ..., version: _Optional[str] = ...) -> None: ...

class UndeployRequest(_message.Message):
    __slots__ = ("app", "environment", "selector", "by_rule")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    APP_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    BY_RULE_FIELD_NUMBER: _ClassVar[int]
    app: str
    environment: str
    selector: _containers.ScalarMap[str, str]
    by_rule: bool
    def __init__(self, app: _Optional[str] = ..., environment: _Optional[str] = ..., selector: _Optional[_Mapping[str, str]] = ..., by_rule: _Optional[bool] = ...) -> None: ...

class UndeployResponse(_message.Message):
    __slots__ = ("assignments",)
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    assignments: int
    def __init__(self, assignments: _Optional[int] = ...) -> None: ...

class GetAssignmentRequest(_message.Message):
    __slots__ = ("assignment",)
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    def __init__(self, assignment: _Optional[str] = ...) -> None: ...

class HostProgress(_message.Message):
    __slots__ = ("host", "online", "admitted", "phase", "state", "reason", "wave", "evidence")
    HOST_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    host: str
    online: bool
    admitted: bool
    phase: str
    state: _types_pb2.AppState
    reason: str
    wave: int
    evidence: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, host: _Optional[str] = ..., online: _Optional[bool] = ..., admitted: _Optional[bool] = ..., phase: _Optional[str] = ..., state: _Optional[_Union[_types_pb2.AppState, _Mapping]] = ..., reason: _Optional[str] = ..., wave: _Optional[int] = ..., evidence: _Optional[_Iterable[str]] = ...) -> None: ...

class WaveProgress(_message.Message):
    __slots__ = ("number", "text", "state", "waits", "soak_until_unix_ms", "phases", "checks")
    class PhasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    SOAK_UNTIL_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    number: int
    text: str
    state: str
    waits: str
    soak_until_unix_ms: int
    phases: _containers.ScalarMap[str, int]
    checks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, number: _Optional[int] = ..., text: _Optional[str] = ..., state: _Optional[str] = ..., waits: _Optional[str] = ..., soak_until_unix_ms: _Optional[int] = ..., phases: _Optional[_Mapping[str, int]] = ..., checks: _Optional[_Iterable[str]] = ...) -> None: ...

class GetAssignmentResponse(_message.Message):
    __slots__ = ("assignment", "app", "version", "environment", "state", "reason", "hosts", "waves", "wave", "generation", "selector", "created_by", "created_unix_ms", "max_unavailable", "max_failures", "max_failure_share", "on_breach", "windows", "at_unix_ms", "expires_unix_ms", "override_freeze", "offline_wait_ms", "newcomers", "bars", "approvers", "metrics", "progress_deadline_ms", "budgets", "priority", "order", "prefetch")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    WAVES_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    MAX_FAILURES_FIELD_NUMBER: _ClassVar[int]
    MAX_FAILURE_SHARE_FIELD_NUMBER: _ClassVar[int]
    ON_BREACH_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FREEZE_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    NEWCOMERS_FIELD_NUMBER: _ClassVar[int]
    BARS_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    app: str
    version: str
    environment: str
    state: str
    reason: str
    hosts: _containers.RepeatedCompositeFieldContainer[HostProgress]
    waves: _containers.RepeatedCompositeFieldContainer[WaveProgress]
    wave: int
    generation: int
    selector: _containers.ScalarMap[str, str]
    created_by: str
    created_unix_ms: int
    max_unavailable: int
    max_failures: int
    max_failure_share: int
    on_breach: str
    windows: _containers.RepeatedScalarFieldContainer[str]
    at_unix_ms: int
    expires_unix_ms: int
    override_freeze: str
    offline_wait_ms: int
    newcomers: str
    bars: _containers.RepeatedCompositeFieldContainer[Bar]
    approvers: _containers.RepeatedScalarFieldContainer[str]
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    progress_deadline_ms: int
    budgets: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    order: str
    prefetch: bool
    def __init__(self, assignment: _Optional[str] = ..., app: _Optional[str] = ..., version: _Optional[str] = ..., environment: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., hosts: _Optional[_Iterable[_Union[HostProgress, _Mapping]]] = ..., waves: _Optional[_Iterable[_Union[WaveProgress, _Mapping]]] = ..., wave: _Optional[int] = ..., generation: _Optional[int] = ..., selector: _Optional[_Mapping[str, str]] = ..., created_by: _Optional[str] = ..., created_unix_ms: _Optional[int] = ..., max_unavailable: _Optional[int] = ..., max_failures: _Optional[int] = ..., max_failure_share: _Optional[int] = ..., on_breach: _Optional[str] = ..., windows: _Optional[_Iterable[str]] = ..., at_unix_ms: _Optional[int] = ..., expires_unix_ms: _Optional[int] = ..., override_freeze: _Optional[str] = ..., offline_wait_ms: _Optional[int] = ..., newcomers: _Optional[str] = ..., bars: _Optional[_Iterable[_Union[Bar, _Mapping]]] = ..., approvers: _Optional[_Iterable[str]] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., progress_deadline_ms: _Optional[int] = ..., budgets: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., order: _Optional[str] = ..., prefetch: _Optional[bool] = ...) -> None: ...

class Bar(_message.Message):
    __slots__ = ("fact", "until_unix_ms", "command")
    FACT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    fact: str
    until_unix_ms: int
    command: str
    def __init__(self, fact: _Optional[str] = ..., until_unix_ms: _Optional[int] = ..., command: _Optional[str] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("deploy", "source")
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    deploy: DeployRequest
    source: str
    def __init__(self, deploy: _Optional[_Union[DeployRequest, _Mapping]] = ..., source: _Optional[str] = ...) -> None: ...

class PlannedHost(_message.Message):
    __slots__ = ("host", "wave", "turn", "before", "stays", "online", "at_most_bytes", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    HOST_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    STAYS_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_BYTES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    host: str
    wave: int
    turn: int
    before: str
    stays: str
    online: bool
    at_most_bytes: int
    labels: _containers.ScalarMap[str, str]
    def __init__(self, host: _Optional[str] = ..., wave: _Optional[int] = ..., turn: _Optional[int] = ..., before: _Optional[str] = ..., stays: _Optional[str] = ..., online: _Optional[bool] = ..., at_most_bytes: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PlannedWave(_message.Message):
    __slots__ = ("number", "text", "hosts", "asks", "opens_ms")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    OPENS_MS_FIELD_NUMBER: _ClassVar[int]
    number: int
    text: str
    hosts: int
    asks: str
    opens_ms: int
    def __init__(self, number: _Optional[int] = ..., text: _Optional[str] = ..., hosts: _Optional[int] = ..., asks: _Optional[str] = ..., opens_ms: _Optional[int] = ...) -> None: ...

class PlannedDelay(_message.Message):
    __slots__ = ("wave", "waits", "after_ms", "lasts_ms")
    WAVE_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    LASTS_MS_FIELD_NUMBER: _ClassVar[int]
    wave: int
    waits: str
    after_ms: int
    lasts_ms: int
    def __init__(self, wave: _Optional[int] = ..., waits: _Optional[str] = ..., after_ms: _Optional[int] = ..., lasts_ms: _Optional[int] = ...) -> None: ...

class PlanResponse(_message.Message):
    __slots__ = ("assignment", "version", "unchanged", "hosts", "waves", "delays", "at_once", "took_ms", "waits", "cut", "at_most_bytes", "host_ms", "progress_deadline_ms")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    WAVES_FIELD_NUMBER: _ClassVar[int]
    DELAYS_FIELD_NUMBER: _ClassVar[int]
    AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_BYTES_FIELD_NUMBER: _ClassVar[int]
    HOST_MS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    version: str
    unchanged: bool
    hosts: _containers.RepeatedCompositeFieldContainer[PlannedHost]
    waves: _containers.RepeatedCompositeFieldContainer[PlannedWave]
    delays: _containers.RepeatedCompositeFieldContainer[PlannedDelay]
    at_once: int
    took_ms: int
    waits: str
    cut: bool
    at_most_bytes: int
    host_ms: int
    progress_deadline_ms: int
    def __init__(self, assignment: _Optional[str] = ..., version: _Optional[str] = ..., unchanged: _Optional[bool] = ..., hosts: _Optional[_Iterable[_Union[PlannedHost, _Mapping]]] = ..., waves: _Optional[_Iterable[_Union[PlannedWave, _Mapping]]] = ..., delays: _Optional[_Iterable[_Union[PlannedDelay, _Mapping]]] = ..., at_once: _Optional[int] = ..., took_ms: _Optional[int] = ..., waits: _Optional[str] = ..., cut: _Optional[bool] = ..., at_most_bytes: _Optional[int] = ..., host_ms: _Optional[int] = ..., progress_deadline_ms: _Optional[int] = ...) -> None: ...

class ListRolloutsRequest(_message.Message):
    __slots__ = ("app", "environment", "history")
    APP_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    app: str
    environment: str
    history: bool
    def __init__(self, app: _Optional[str] = ..., environment: _Optional[str] = ..., history: _Optional[bool] = ...) -> None: ...

class ListRolloutsResponse(_message.Message):
    __slots__ = ("rollouts", "notice")
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    rollouts: _containers.RepeatedCompositeFieldContainer[GetAssignmentResponse]
    notice: str
    def __init__(self, rollouts: _Optional[_Iterable[_Union[GetAssignmentResponse, _Mapping]]] = ..., notice: _Optional[str] = ...) -> None: ...

class SteerRolloutRequest(_message.Message):
    __slots__ = ("rollout", "verb", "reason")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    rollout: str
    verb: str
    reason: str
    def __init__(self, rollout: _Optional[str] = ..., verb: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SteerRolloutResponse(_message.Message):
    __slots__ = ("assignment", "app", "version", "environment", "state", "reason", "wave")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    app: str
    version: str
    environment: str
    state: str
    reason: str
    wave: int
    def __init__(self, assignment: _Optional[str] = ..., app: _Optional[str] = ..., version: _Optional[str] = ..., environment: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., wave: _Optional[int] = ...) -> None: ...

class PromoteRequest(_message.Message):
    __slots__ = ("source", "deploy")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    source: str
    deploy: DeployRequest
    def __init__(self, source: _Optional[str] = ..., deploy: _Optional[_Union[DeployRequest, _Mapping]] = ...) -> None: ...

class UndoRequest(_message.Message):
    __slots__ = ("app", "environment", "selector", "by_rule")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    APP_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    BY_RULE_FIELD_NUMBER: _ClassVar[int]
    app: str
    environment: str
    selector: _containers.ScalarMap[str, str]
    by_rule: bool
    def __init__(self, app: _Optional[str] = ..., environment: _Optional[str] = ..., selector: _Optional[_Mapping[str, str]] = ..., by_rule: _Optional[bool] = ...) -> None: ...

class ApproveRolloutRequest(_message.Message):
    __slots__ = ("rollout", "wave", "reason")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    rollout: str
    wave: int
    reason: str
    def __init__(self, rollout: _Optional[str] = ..., wave: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ApproveRolloutResponse(_message.Message):
    __slots__ = ("assignment", "app", "version", "environment", "wave", "names", "needed", "again")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    app: str
    version: str
    environment: str
    wave: int
    names: _containers.RepeatedScalarFieldContainer[str]
    needed: int
    again: bool
    def __init__(self, assignment: _Optional[str] = ..., app: _Optional[str] = ..., version: _Optional[str] = ..., environment: _Optional[str] = ..., wave: _Optional[int] = ..., names: _Optional[_Iterable[str]] = ..., needed: _Optional[int] = ..., again: _Optional[bool] = ...) -> None: ...

class ListEnvironmentsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Environment(_message.Message):
    __slots__ = ("name", "after", "healthy_for_ms", "hosts", "declared")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FOR_MS_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    name: str
    after: str
    healthy_for_ms: int
    hosts: int
    declared: bool
    def __init__(self, name: _Optional[str] = ..., after: _Optional[str] = ..., healthy_for_ms: _Optional[int] = ..., hosts: _Optional[int] = ..., declared: _Optional[bool] = ...) -> None: ...

class ListEnvironmentsResponse(_message.Message):
    __slots__ = ("environments",)
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    environments: _containers.RepeatedCompositeFieldContainer[Environment]
    def __init__(self, environments: _Optional[_Iterable[_Union[Environment, _Mapping]]] = ...) -> None: ...

class SetEnvironmentRequest(_message.Message):
    __slots__ = ("name", "after", "healthy_for_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FOR_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    after: str
    healthy_for_ms: int
    def __init__(self, name: _Optional[str] = ..., after: _Optional[str] = ..., healthy_for_ms: _Optional[int] = ...) -> None: ...

class SetEnvironmentResponse(_message.Message):
    __slots__ = ("environment",)
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    environment: Environment
    def __init__(self, environment: _Optional[_Union[Environment, _Mapping]] = ...) -> None: ...

class ListParametersRequest(_message.Message):
    __slots__ = ("environment", "app")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    environment: str
    app: str
    def __init__(self, environment: _Optional[str] = ..., app: _Optional[str] = ...) -> None: ...

class ParameterSetting(_message.Message):
    __slots__ = ("environment", "label", "app", "name", "text")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    environment: str
    label: str
    app: str
    name: str
    text: str
    def __init__(self, environment: _Optional[str] = ..., label: _Optional[str] = ..., app: _Optional[str] = ..., name: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ListParametersResponse(_message.Message):
    __slots__ = ("parameters",)
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterSetting]
    def __init__(self, parameters: _Optional[_Iterable[_Union[ParameterSetting, _Mapping]]] = ...) -> None: ...

class SetParametersRequest(_message.Message):
    __slots__ = ("environment", "label", "parameters", "unset")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    UNSET_FIELD_NUMBER: _ClassVar[int]
    environment: str
    label: str
    parameters: _containers.ScalarMap[str, str]
    unset: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, environment: _Optional[str] = ..., label: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., unset: _Optional[_Iterable[str]] = ...) -> None: ...

class SetParametersResponse(_message.Message):
    __slots__ = ("hosts", "notes")
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    hosts: int
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hosts: _Optional[int] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("app",)
    APP_FIELD_NUMBER: _ClassVar[int]
    app: str
    def __init__(self, app: _Optional[str] = ...) -> None: ...

class StatusRow(_message.Message):
    __slots__ = ("host", "environment", "app", "current", "desired", "state", "health", "reason")
    HOST_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    host: str
    environment: str
    app: str
    current: str
    desired: str
    state: str
    health: str
    reason: str
    def __init__(self, host: _Optional[str] = ..., environment: _Optional[str] = ..., app: _Optional[str] = ..., current: _Optional[str] = ..., desired: _Optional[str] = ..., state: _Optional[str] = ..., health: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("rows", "notice")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[StatusRow]
    notice: str
    def __init__(self, rows: _Optional[_Iterable[_Union[StatusRow, _Mapping]]] = ..., notice: _Optional[str] = ...) -> None: ...

class AddEntryRequest(_message.Message):
    __slots__ = ("kind", "environment", "everywhere", "selector", "weekly", "begins", "ends", "reason")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    EVERYWHERE_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    WEEKLY_FIELD_NUMBER: _ClassVar[int]
    BEGINS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    kind: str
    environment: str
    everywhere: bool
    selector: _containers.ScalarMap[str, str]
    weekly: str
    begins: str
    ends: str
    reason: str
    def __init__(self, kind: _Optional[str] = ..., environment: _Optional[str] = ..., everywhere: _Optional[bool] = ..., selector: _Optional[_Mapping[str, str]] = ..., weekly: _Optional[str] = ..., begins: _Optional[str] = ..., ends: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CalendarEntry(_message.Message):
    __slots__ = ("id", "kind", "environment", "selector", "weekly", "from_unix_ms", "until_unix_ms", "reason", "created_by", "created_unix_ms", "now")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    WEEKLY_FIELD_NUMBER: _ClassVar[int]
    FROM_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    environment: str
    selector: _containers.ScalarMap[str, str]
    weekly: str
    from_unix_ms: int
    until_unix_ms: int
    reason: str
    created_by: str
    created_unix_ms: int
    now: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., environment: _Optional[str] = ..., selector: _Optional[_Mapping[str, str]] = ..., weekly: _Optional[str] = ..., from_unix_ms: _Optional[int] = ..., until_unix_ms: _Optional[int] = ..., reason: _Optional[str] = ..., created_by: _Optional[str] = ..., created_unix_ms: _Optional[int] = ..., now: _Optional[str] = ...) -> None: ...

class ListEntriesRequest(_message.Message):
    __slots__ = ("kind",)
    KIND_FIELD_NUMBER: _ClassVar[int]
    kind: str
    def __init__(self, kind: _Optional[str] = ...) -> None: ...

class ListEntriesResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[CalendarEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[CalendarEntry, _Mapping]]] = ...) -> None: ...

class RemoveEntryRequest(_message.Message):
    __slots__ = ("kind", "id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    kind: str
    id: str
    def __init__(self, kind: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class SetHostParameters(_message.Message):
    __slots__ = ("name", "parameters", "unset")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    UNSET_FIELD_NUMBER: _ClassVar[int]
    name: str
    parameters: _containers.ScalarMap[str, str]
    unset: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., unset: _Optional[_Iterable[str]] = ...) -> None: ...

class ApplyStep(_message.Message):
    __slots__ = ("environment", "parameters", "host", "add_entry", "remove_entry", "deploy", "undeploy")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ADD_ENTRY_FIELD_NUMBER: _ClassVar[int]
    REMOVE_ENTRY_FIELD_NUMBER: _ClassVar[int]
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    UNDEPLOY_FIELD_NUMBER: _ClassVar[int]
    environment: SetEnvironmentRequest
    parameters: SetParametersRequest
    host: SetHostParameters
    add_entry: AddEntryRequest
    remove_entry: RemoveEntryRequest
    deploy: DeployRequest
    undeploy: UndeployRequest
    def __init__(self, environment: _Optional[_Union[SetEnvironmentRequest, _Mapping]] = ..., parameters: _Optional[_Union[SetParametersRequest, _Mapping]] = ..., host: _Optional[_Union[SetHostParameters, _Mapping]] = ..., add_entry: _Optional[_Union[AddEntryRequest, _Mapping]] = ..., remove_entry: _Optional[_Union[RemoveEntryRequest, _Mapping]] = ..., deploy: _Optional[_Union[DeployRequest, _Mapping]] = ..., undeploy: _Optional[_Union[UndeployRequest, _Mapping]] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("steps", "dry_run")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[ApplyStep]
    dry_run: bool
    def __init__(self, steps: _Optional[_Iterable[_Union[ApplyStep, _Mapping]]] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class ApplyResponse(_message.Message):
    __slots__ = ("refused", "step", "reason")
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    refused: bool
    step: int
    reason: str
    def __init__(self, refused: _Optional[bool] = ..., step: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ShowRestoredRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RestoredRow(_message.Message):
    __slots__ = ("host", "environment", "ahead", "app", "current", "desired")
    HOST_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    host: str
    environment: str
    ahead: bool
    app: str
    current: str
    desired: str
    def __init__(self, host: _Optional[str] = ..., environment: _Optional[str] = ..., ahead: _Optional[bool] = ..., app: _Optional[str] = ..., current: _Optional[str] = ..., desired: _Optional[str] = ...) -> None: ...

class ShowRestoredResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[RestoredRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[RestoredRow, _Mapping]]] = ...) -> None: ...

class AcceptRestoredRequest(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class AcceptRestoredResponse(_message.Message):
    __slots__ = ("hosts",)
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    hosts: int
    def __init__(self, hosts: _Optional[int] = ...) -> None: ...

class CreateBundleRequest(_message.Message):
    __slots__ = ("hosts", "releases", "since", "valid_ms", "delta_wait_ms")
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    VALID_MS_FIELD_NUMBER: _ClassVar[int]
    DELTA_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    hosts: _containers.RepeatedScalarFieldContainer[str]
    releases: _containers.RepeatedScalarFieldContainer[str]
    since: _containers.RepeatedScalarFieldContainer[str]
    valid_ms: int
    delta_wait_ms: int
    def __init__(self, hosts: _Optional[_Iterable[str]] = ..., releases: _Optional[_Iterable[str]] = ..., since: _Optional[_Iterable[str]] = ..., valid_ms: _Optional[int] = ..., delta_wait_ms: _Optional[int] = ...) -> None: ...

class CreateBundleResponse(_message.Message):
    __slots__ = ("note", "size", "data", "last")
    NOTE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    note: str
    size: int
    data: bytes
    last: bool
    def __init__(self, note: _Optional[str] = ..., size: _Optional[int] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class ImportReportsRequest(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ImportReportsResponse(_message.Message):
    __slots__ = ("host", "events", "added", "state", "made_unix_ms")
    HOST_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MADE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    host: str
    events: int
    added: int
    state: bool
    made_unix_ms: int
    def __init__(self, host: _Optional[str] = ..., events: _Optional[int] = ..., added: _Optional[int] = ..., state: _Optional[bool] = ..., made_unix_ms: _Optional[int] = ...) -> None: ...

class HostReports(_message.Message):
    __slots__ = ("host_id", "made_unix_ms", "events", "apps", "state_revision")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    MADE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    APPS_FIELD_NUMBER: _ClassVar[int]
    STATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    made_unix_ms: int
    events: _containers.RepeatedCompositeFieldContainer[_types_pb2.ReportEvent]
    apps: _containers.RepeatedCompositeFieldContainer[_types_pb2.AppState]
    state_revision: int
    def __init__(self, host_id: _Optional[str] = ..., made_unix_ms: _Optional[int] = ..., events: _Optional[_Iterable[_Union[_types_pb2.ReportEvent, _Mapping]]] = ..., apps: _Optional[_Iterable[_Union[_types_pb2.AppState, _Mapping]]] = ..., state_revision: _Optional[int] = ...) -> None: ...

class ListAuditRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("at_unix_ms", "actor", "act", "subject", "detail", "outcome")
    AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    ACT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    at_unix_ms: int
    actor: str
    act: str
    subject: str
    detail: str
    outcome: str
    def __init__(self, at_unix_ms: _Optional[int] = ..., actor: _Optional[str] = ..., act: _Optional[str] = ..., subject: _Optional[str] = ..., detail: _Optional[str] = ..., outcome: _Optional[str] = ...) -> None: ...

class ListAuditResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ...) -> None: ...

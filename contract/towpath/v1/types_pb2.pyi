from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Value(_message.Message):
    __slots__ = ("text", "number", "flag", "list")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    text: str
    number: int
    flag: bool
    list: TextList
    def __init__(self, text: _Optional[str] = ..., number: _Optional[int] = ..., flag: _Optional[bool] = ..., list: _Optional[_Union[TextList, _Mapping]] = ...) -> None: ...

class TextList(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[str]] = ...) -> None: ...

class Option(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: Value
    def __init__(self, name: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("name", "type", "default", "choices")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    default: Value
    choices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., default: _Optional[_Union[Value, _Mapping]] = ..., choices: _Optional[_Iterable[str]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("index_sha256", "index_size", "tree_size")
    INDEX_SHA256_FIELD_NUMBER: _ClassVar[int]
    INDEX_SIZE_FIELD_NUMBER: _ClassVar[int]
    TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    index_sha256: bytes
    index_size: int
    tree_size: int
    def __init__(self, index_sha256: _Optional[bytes] = ..., index_size: _Optional[int] = ..., tree_size: _Optional[int] = ...) -> None: ...

class Index(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("path", "type", "mode", "size", "sha256", "target")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TYPE_UNSPECIFIED: _ClassVar[Entry.Type]
        FILE: _ClassVar[Entry.Type]
        DIRECTORY: _ClassVar[Entry.Type]
        LINK: _ClassVar[Entry.Type]
    TYPE_UNSPECIFIED: Entry.Type
    FILE: Entry.Type
    DIRECTORY: Entry.Type
    LINK: Entry.Type
    PATH_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    path: str
    type: Entry.Type
    mode: int
    size: int
    sha256: bytes
    target: str
    def __init__(self, path: _Optional[str] = ..., type: _Optional[_Union[Entry.Type, str]] = ..., mode: _Optional[int] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ..., target: _Optional[str] = ...) -> None: ...

class Install(_message.Message):
    __slots__ = ("kind", "options", "keep", "keep_bytes")
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    KEEP_BYTES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    options: _containers.RepeatedCompositeFieldContainer[Option]
    keep: int
    keep_bytes: int
    def __init__(self, kind: _Optional[str] = ..., options: _Optional[_Iterable[_Union[Option, _Mapping]]] = ..., keep: _Optional[int] = ..., keep_bytes: _Optional[int] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("kind", "options", "command", "env", "stop_timeout_ms", "handover")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    STOP_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    HANDOVER_FIELD_NUMBER: _ClassVar[int]
    kind: str
    options: _containers.RepeatedCompositeFieldContainer[Option]
    command: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    stop_timeout_ms: int
    handover: Handover
    def __init__(self, kind: _Optional[str] = ..., options: _Optional[_Iterable[_Union[Option, _Mapping]]] = ..., command: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., stop_timeout_ms: _Optional[int] = ..., handover: _Optional[_Union[Handover, _Mapping]] = ...) -> None: ...

class Handover(_message.Message):
    __slots__ = ("ports", "drain_ms")
    PORTS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_MS_FIELD_NUMBER: _ClassVar[int]
    ports: _containers.RepeatedScalarFieldContainer[str]
    drain_ms: int
    def __init__(self, ports: _Optional[_Iterable[str]] = ..., drain_ms: _Optional[int] = ...) -> None: ...

class Hook(_message.Message):
    __slots__ = ("point", "command", "timeout_ms")
    POINT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    point: str
    command: _containers.RepeatedScalarFieldContainer[str]
    timeout_ms: int
    def __init__(self, point: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ("kind", "options", "interval_ms", "timeout_ms", "successes", "failures")
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    SUCCESSES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    options: _containers.RepeatedCompositeFieldContainer[Option]
    interval_ms: int
    timeout_ms: int
    successes: int
    failures: int
    def __init__(self, kind: _Optional[str] = ..., options: _Optional[_Iterable[_Union[Option, _Mapping]]] = ..., interval_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., successes: _Optional[int] = ..., failures: _Optional[int] = ...) -> None: ...

class HealthPolicy(_message.Message):
    __slots__ = ("healthy_for_ms", "deadline_ms", "probation_ms")
    HEALTHY_FOR_MS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    PROBATION_MS_FIELD_NUMBER: _ClassVar[int]
    healthy_for_ms: int
    deadline_ms: int
    probation_ms: int
    def __init__(self, healthy_for_ms: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., probation_ms: _Optional[int] = ...) -> None: ...

class Requirements(_message.Message):
    __slots__ = ("disk_bytes", "apps", "together")
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    APPS_FIELD_NUMBER: _ClassVar[int]
    TOGETHER_FIELD_NUMBER: _ClassVar[int]
    disk_bytes: int
    apps: _containers.RepeatedScalarFieldContainer[str]
    together: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, disk_bytes: _Optional[int] = ..., apps: _Optional[_Iterable[str]] = ..., together: _Optional[_Iterable[str]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("app", "version", "counter", "rollback_floor", "artifact", "install", "run", "hooks", "probes", "health", "parameters", "requires", "platforms", "environments", "critical")
    APP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_FLOOR_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    INSTALL_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    HOOKS_FIELD_NUMBER: _ClassVar[int]
    PROBES_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_FIELD_NUMBER: _ClassVar[int]
    PLATFORMS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    CRITICAL_FIELD_NUMBER: _ClassVar[int]
    app: str
    version: str
    counter: int
    rollback_floor: int
    artifact: Artifact
    install: Install
    run: Run
    hooks: _containers.RepeatedCompositeFieldContainer[Hook]
    probes: _containers.RepeatedCompositeFieldContainer[Probe]
    health: HealthPolicy
    parameters: _containers.RepeatedCompositeFieldContainer[Parameter]
    requires: Requirements
    platforms: _containers.RepeatedScalarFieldContainer[str]
    environments: _containers.RepeatedScalarFieldContainer[str]
    critical: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, app: _Optional[str] = ..., version: _Optional[str] = ..., counter: _Optional[int] = ..., rollback_floor: _Optional[int] = ..., artifact: _Optional[_Union[Artifact, _Mapping]] = ..., install: _Optional[_Union[Install, _Mapping]] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., hooks: _Optional[_Iterable[_Union[Hook, _Mapping]]] = ..., probes: _Optional[_Iterable[_Union[Probe, _Mapping]]] = ..., health: _Optional[_Union[HealthPolicy, _Mapping]] = ..., parameters: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ..., requires: _Optional[_Union[Requirements, _Mapping]] = ..., platforms: _Optional[_Iterable[str]] = ..., environments: _Optional[_Iterable[str]] = ..., critical: _Optional[_Iterable[str]] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("host_id", "host_key_sha256", "sequence", "issued_unix_ms", "expires_unix_ms", "nonce", "min_snapshot_version", "environment", "apps", "critical", "prefetch")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_KEY_SHA256_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    MIN_SNAPSHOT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    APPS_FIELD_NUMBER: _ClassVar[int]
    CRITICAL_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    host_key_sha256: bytes
    sequence: int
    issued_unix_ms: int
    expires_unix_ms: int
    nonce: bytes
    min_snapshot_version: int
    environment: str
    apps: _containers.RepeatedCompositeFieldContainer[DesiredApp]
    critical: _containers.RepeatedScalarFieldContainer[str]
    prefetch: _containers.RepeatedCompositeFieldContainer[DesiredApp]
    def __init__(self, host_id: _Optional[str] = ..., host_key_sha256: _Optional[bytes] = ..., sequence: _Optional[int] = ..., issued_unix_ms: _Optional[int] = ..., expires_unix_ms: _Optional[int] = ..., nonce: _Optional[bytes] = ..., min_snapshot_version: _Optional[int] = ..., environment: _Optional[str] = ..., apps: _Optional[_Iterable[_Union[DesiredApp, _Mapping]]] = ..., critical: _Optional[_Iterable[str]] = ..., prefetch: _Optional[_Iterable[_Union[DesiredApp, _Mapping]]] = ...) -> None: ...

class DesiredApp(_message.Message):
    __slots__ = ("app", "version", "target_path", "release_size", "release_sha256", "counter", "parameters", "generation", "assignment")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    APP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TARGET_PATH_FIELD_NUMBER: _ClassVar[int]
    RELEASE_SIZE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_SHA256_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    app: str
    version: str
    target_path: str
    release_size: int
    release_sha256: bytes
    counter: int
    parameters: _containers.MessageMap[str, Value]
    generation: int
    assignment: str
    def __init__(self, app: _Optional[str] = ..., version: _Optional[str] = ..., target_path: _Optional[str] = ..., release_size: _Optional[int] = ..., release_sha256: _Optional[bytes] = ..., counter: _Optional[int] = ..., parameters: _Optional[_Mapping[str, Value]] = ..., generation: _Optional[int] = ..., assignment: _Optional[str] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("payload", "payload_type", "signatures")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    payload_type: str
    signatures: _containers.RepeatedCompositeFieldContainer[Signature]
    def __init__(self, payload: _Optional[bytes] = ..., payload_type: _Optional[str] = ..., signatures: _Optional[_Iterable[_Union[Signature, _Mapping]]] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("sig", "keyid")
    SIG_FIELD_NUMBER: _ClassVar[int]
    KEYID_FIELD_NUMBER: _ClassVar[int]
    sig: bytes
    keyid: str
    def __init__(self, sig: _Optional[bytes] = ..., keyid: _Optional[str] = ...) -> None: ...

class AppState(_message.Message):
    __slots__ = ("app", "current_version", "current_sha256", "desired_version", "desired_sha256", "state", "health", "verdict", "reason", "previous_version", "generation", "since_unix_ms", "parameters", "prefetch", "transfer")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    APP_FIELD_NUMBER: _ClassVar[int]
    CURRENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CURRENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    DESIRED_VERSION_FIELD_NUMBER: _ClassVar[int]
    DESIRED_SHA256_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SINCE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    app: str
    current_version: str
    current_sha256: bytes
    desired_version: str
    desired_sha256: bytes
    state: str
    health: str
    verdict: str
    reason: str
    previous_version: str
    generation: int
    since_unix_ms: int
    parameters: _containers.MessageMap[str, Value]
    prefetch: Prefetch
    transfer: Transfer
    def __init__(self, app: _Optional[str] = ..., current_version: _Optional[str] = ..., current_sha256: _Optional[bytes] = ..., desired_version: _Optional[str] = ..., desired_sha256: _Optional[bytes] = ..., state: _Optional[str] = ..., health: _Optional[str] = ..., verdict: _Optional[str] = ..., reason: _Optional[str] = ..., previous_version: _Optional[str] = ..., generation: _Optional[int] = ..., since_unix_ms: _Optional[int] = ..., parameters: _Optional[_Mapping[str, Value]] = ..., prefetch: _Optional[_Union[Prefetch, _Mapping]] = ..., transfer: _Optional[_Union[Transfer, _Mapping]] = ...) -> None: ...

class Transfer(_message.Message):
    __slots__ = ("version", "done", "total", "about", "rate", "remaining_ms", "delta")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    ABOUT_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    REMAINING_MS_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    version: str
    done: int
    total: int
    about: bool
    rate: int
    remaining_ms: int
    delta: bool
    def __init__(self, version: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., about: _Optional[bool] = ..., rate: _Optional[int] = ..., remaining_ms: _Optional[int] = ..., delta: _Optional[bool] = ...) -> None: ...

class Prefetch(_message.Message):
    __slots__ = ("version", "sha256", "state", "reason")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    version: str
    sha256: bytes
    state: str
    reason: str
    def __init__(self, version: _Optional[str] = ..., sha256: _Optional[bytes] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReportEvent(_message.Message):
    __slots__ = ("id", "at_unix_ms", "kind", "app", "transaction", "state", "version", "release_sha256", "verdict", "reason", "code", "evidence")
    ID_FIELD_NUMBER: _ClassVar[int]
    AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    APP_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_SHA256_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    at_unix_ms: int
    kind: str
    app: str
    transaction: str
    state: str
    version: str
    release_sha256: bytes
    verdict: str
    reason: str
    code: str
    evidence: str
    def __init__(self, id: _Optional[str] = ..., at_unix_ms: _Optional[int] = ..., kind: _Optional[str] = ..., app: _Optional[str] = ..., transaction: _Optional[str] = ..., state: _Optional[str] = ..., version: _Optional[str] = ..., release_sha256: _Optional[bytes] = ..., verdict: _Optional[str] = ..., reason: _Optional[str] = ..., code: _Optional[str] = ..., evidence: _Optional[str] = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ("app", "by", "reason", "since_unix_ms", "until_unix_ms")
    APP_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SINCE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    app: str
    by: str
    reason: str
    since_unix_ms: int
    until_unix_ms: int
    def __init__(self, app: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., since_unix_ms: _Optional[int] = ..., until_unix_ms: _Optional[int] = ...) -> None: ...

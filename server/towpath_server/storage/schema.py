"""The tables. Columns have the names of the fields in `domain.model` and `towpath.reports`.

Change them only together with a new revision in `migrations/versions`; a test compares the two. Digests are BLOBs,
times Unix milliseconds, mappings JSON. Serial numbers are text: they have up to 160 bits.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=False)


def _int(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _bytes(name: str, *, key: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, primary_key=key, nullable=False)


hosts = Table(
    "hosts",
    metadata,
    _text("id", key=True),
    Column("name", Text, nullable=False, unique=True),
    _text("environment"),
    _text("serial"),
    _bytes("key_sha256"),
    _bytes("certificate_pem"),
    _int("not_after_unix_ms"),
    _int("enrolled_unix_ms"),
    Column("labels", JSON, nullable=False),
    Column("parameters", JSON, nullable=False),
    _text("status"),
    _text("previous_serial"),
    _text("agent_version"),
    _text("platform"),
    _text("boot_id"),
    _int("last_seen_unix_ms"),
    _int("state_revision"),
    Column("holds", JSON, nullable=False),
    _int("released_unix_ms"),
    _int("change"),
    Index("ix_hosts_key", "key_sha256"),
    Index("ix_hosts_change", "environment", "change"),
)

tokens = Table(
    "tokens",
    metadata,
    _text("id", key=True),
    _bytes("secret_sha256"),
    _text("environment"),
    _int("uses_left"),
    _int("expires_unix_ms"),
    _int("created_unix_ms"),
    _text("created_by"),
    Column("labels", JSON, nullable=False),
)

token_uses = Table(
    "token_uses",
    metadata,
    _text("token_id", key=True),
    _bytes("key_sha256", key=True),
    _text("host_id"),
    _bytes("certificate_pem"),
)

metadata_files = Table("metadata_files", metadata, _text("name", key=True), _bytes("data"))

releases = Table(
    "releases",
    metadata,
    _text("app", key=True),
    _text("version", key=True),
    _int("counter"),
    _bytes("sha256"),
    _bytes("data"),
    _int("published_unix_ms"),
    _text("published_by"),
)

assignments = Table(
    "assignments",
    metadata,
    _text("id", key=True),
    _text("app"),
    _text("version"),
    _bytes("release_sha256"),
    _text("environment"),
    Column("selector", JSON, nullable=False),
    Column("generation", BigInteger, nullable=False, unique=True),
    _int("max_unavailable"),
    _int("max_failures"),
    _int("progress_deadline_ms"),
    _int("created_unix_ms"),
    _text("created_by"),
    _text("state"),
    _text("reason"),
    Column("waves", JSON, nullable=False),
    _int("wave"),
    _int("wave_done_unix_ms"),
    _int("max_failure_share"),
    _text("on_breach"),
    Column("excused", JSON, nullable=False),
    _int("resumed_unix_ms"),
    _int("done_unix_ms"),
    Column("timing", JSON, nullable=False),
    _int("offline_wait_ms"),
    _text("newcomers"),
    Column("roster", JSON(none_as_null=True), nullable=True),
    Column("approvers", JSON, nullable=False),
    Column("approvals", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    _int("entered_unix_ms"),
    Column("prefetch", Boolean, nullable=False),
    Column("budgets", JSON, nullable=False),
    _int("priority"),
    _text("order_label"),
    Index("ix_assignments_rule", "environment", "app"),
)

admissions = Table(
    "admissions",
    metadata,
    _text("assignment_id", key=True),
    _text("host_id", key=True),
    _int("at_unix_ms"),
    Index("ix_admissions_host", "host_id"),
)

retreats = Table(
    "retreats",
    metadata,
    _text("assignment_id", key=True),
    _text("host_id", key=True),
    _int("at_unix_ms"),
    _int("arrived_unix_ms"),
)

calendar = Table(
    "calendar",
    metadata,
    _text("id", key=True),
    _text("kind"),
    _text("environment"),
    _text("reason"),
    _int("created_unix_ms"),
    _text("created_by"),
    Column("selector", JSON, nullable=False),
    Column("weekly", JSON(none_as_null=True), nullable=True),
    _int("from_unix_ms"),
    _int("until_unix_ms"),
)

events = Table(
    "events",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    _text("host_id"),
    _text("id"),
    _int("at_unix_ms"),
    _text("kind"),
    _text("app"),
    _text("transaction"),
    _text("state"),
    _text("version"),
    _bytes("release_sha256"),
    _text("verdict"),
    _text("reason"),
    _text("code"),
    _text("evidence"),
    UniqueConstraint("host_id", "id", name="uq_events_id"),
)

app_states = Table(
    "app_states",
    metadata,
    _text("host_id", key=True),
    _text("app", key=True),
    _text("current_version"),
    _bytes("current_sha256"),
    _text("desired_version"),
    _bytes("desired_sha256"),
    _text("previous_version"),
    _text("state"),
    _text("health"),
    _text("verdict"),
    _text("reason"),
    _int("generation"),
    _int("since_unix_ms"),
    Column("parameters", JSON, nullable=False),
    _int("progress_unix_ms"),
    Column("prefetch", JSON(none_as_null=True), nullable=True),
    Column("transfer", JSON(none_as_null=True), nullable=True),
    Index("ix_app_states_app", "app"),
)

audit = Table(
    "audit",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    _int("at_unix_ms"),
    _text("actor"),
    _text("act"),
    _text("subject"),
    _text("detail"),
    _text("outcome"),
)

environments = Table("environments", metadata, _text("name", key=True), _text("after"), _int("healthy_for_ms"))

settings = Table(
    "settings",
    metadata,
    _text("environment", key=True),
    _text("label", key=True),
    _text("app", key=True),
    _text("name", key=True),
    _text("text"),
)

gaps = Table("gaps", metadata, _int("after"), Column("before", BigInteger, primary_key=True, nullable=False))

ahead = Table(
    "ahead",
    metadata,
    _text("host_id", key=True),
    _text("name"),
    _text("environment"),
    _int("sequence"),
    _int("at_unix_ms"),
)

numbers = Table("numbers", metadata, _text("name", key=True), _int("value"))

leases = Table("leases", metadata, _text("name", key=True), _text("holder"), _text("seat"), _int("epoch"), _int("beat"))

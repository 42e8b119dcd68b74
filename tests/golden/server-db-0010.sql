BEGIN TRANSACTION;
CREATE TABLE admissions (
	assignment_id TEXT NOT NULL, 
	host_id TEXT NOT NULL, 
	at_unix_ms BIGINT NOT NULL, 
	CONSTRAINT pk_admissions PRIMARY KEY (assignment_id, host_id)
);
INSERT INTO "admissions" VALUES('a1','id-h1',6);
CREATE TABLE ahead (
	host_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	at_unix_ms BIGINT NOT NULL, 
	CONSTRAINT pk_ahead PRIMARY KEY (host_id)
);
INSERT INTO "ahead" VALUES('id-h1','h1','dev',1700000100000,1700003700000);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0010');
CREATE TABLE app_states (
	host_id TEXT NOT NULL, 
	app TEXT NOT NULL, 
	current_version TEXT NOT NULL, 
	current_sha256 BLOB NOT NULL, 
	desired_version TEXT NOT NULL, 
	desired_sha256 BLOB NOT NULL, 
	previous_version TEXT NOT NULL, 
	state TEXT NOT NULL, 
	health TEXT NOT NULL, 
	verdict TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	since_unix_ms BIGINT NOT NULL, 
	parameters JSON NOT NULL, 
	progress_unix_ms BIGINT NOT NULL, prefetch JSON, transfer JSON, 
	CONSTRAINT pk_app_states PRIMARY KEY (host_id, app)
);
INSERT INTO "app_states" VALUES('id-h1','hello','1.0.0',X'','',X'','','Planned','unknown','','',0,0,'{"port": 9001}',7,'{"version": "2.0.0", "sha256": "0202020202020202020202020202020202020202020202020202020202020202", "state": "complete", "reason": ""}','{"version": "2.0.0", "done": 1000, "total": 4000, "about": true, "rate": 100, "remaining_ms": 30000, "delta": true}');
CREATE TABLE assignments (
	id TEXT NOT NULL, 
	app TEXT NOT NULL, 
	version TEXT NOT NULL, 
	release_sha256 BLOB NOT NULL, 
	environment TEXT NOT NULL, 
	selector JSON NOT NULL, 
	generation BIGINT NOT NULL, 
	max_unavailable BIGINT NOT NULL, 
	max_failures BIGINT NOT NULL, 
	progress_deadline_ms BIGINT NOT NULL, 
	created_unix_ms BIGINT NOT NULL, 
	created_by TEXT NOT NULL, 
	state TEXT NOT NULL, 
	reason TEXT NOT NULL, waves JSON DEFAULT '[]' NOT NULL, excused JSON DEFAULT '[]' NOT NULL, on_breach TEXT DEFAULT 'halt' NOT NULL, wave BIGINT DEFAULT 0 NOT NULL, wave_done_unix_ms BIGINT DEFAULT 0 NOT NULL, max_failure_share BIGINT DEFAULT 0 NOT NULL, resumed_unix_ms BIGINT DEFAULT 0 NOT NULL, done_unix_ms BIGINT DEFAULT 0 NOT NULL, timing JSON DEFAULT '{}' NOT NULL, offline_wait_ms BIGINT DEFAULT 0 NOT NULL, newcomers TEXT DEFAULT 'join' NOT NULL, roster JSON, approvers JSON DEFAULT '[]' NOT NULL, approvals JSON DEFAULT '[]' NOT NULL, metrics JSON DEFAULT '[]' NOT NULL, entered_unix_ms BIGINT DEFAULT 0 NOT NULL, prefetch BOOLEAN DEFAULT 0 NOT NULL, budgets JSON DEFAULT '[]' NOT NULL, priority BIGINT DEFAULT 0 NOT NULL, order_label TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_assignments PRIMARY KEY (id), 
	CONSTRAINT uq_assignments_generation UNIQUE (generation)
);
INSERT INTO "assignments" VALUES('a1','hello','1.0.0',X'0202020202020202020202020202020202020202020202020202020202020202','dev','{"role": "web"}',1,0,0,600000,5,'operator/root','rolling','','[{"what": "canary", "soak_ms": 600000, "manual": false}, {"what": "100%", "soak_ms": 0, "manual": false}]','[]','revert',1,0,0,0,0,'{"windows": [{"days": [0, 1, 2, 3, 4], "opens": 1320, "closes": 240, "zone": "Europe/Berlin"}], "at_unix_ms": 7, "expires_unix_ms": 9, "override": "urgent"}',60000,'wait','["id-h1"]','["bob", "carol"]','[{"wave": 0, "by": "bob", "at_unix_ms": 7}]','[{"name": "errors", "query": "up", "below": false, "good": 1.0, "bad": 0.5, "patience_ms": 600000}]',5,1,'[{"label": "rack", "count": 1, "share": 0}, {"label": "zone", "count": 0, "share": 2000}]',7,'rack');
CREATE TABLE audit (
	position INTEGER NOT NULL, 
	at_unix_ms BIGINT NOT NULL, 
	actor TEXT NOT NULL, 
	act TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	CONSTRAINT pk_audit PRIMARY KEY (position)
);
CREATE TABLE calendar (
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	created_unix_ms BIGINT NOT NULL, 
	created_by TEXT NOT NULL, 
	selector JSON NOT NULL, 
	weekly JSON, 
	from_unix_ms BIGINT NOT NULL, 
	until_unix_ms BIGINT NOT NULL, 
	CONSTRAINT pk_calendar PRIMARY KEY (id)
);
INSERT INTO "calendar" VALUES('c1','freeze','dev','Christmas',5,'operator/root','{"role": "web"}',NULL,6,7);
INSERT INTO "calendar" VALUES('c2','window','','nights',6,'operator/root','{}','{"days": [0, 1, 2, 3, 4, 5, 6], "opens": 1320, "closes": 240, "zone": "UTC"}',0,0);
CREATE TABLE environments (
	name TEXT NOT NULL, 
	"after" TEXT NOT NULL, 
	healthy_for_ms BIGINT NOT NULL, 
	CONSTRAINT pk_environments PRIMARY KEY (name)
);
INSERT INTO "environments" VALUES('production','staging',7200000);
CREATE TABLE events (
	position INTEGER NOT NULL, 
	host_id TEXT NOT NULL, 
	id TEXT NOT NULL, 
	at_unix_ms BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	app TEXT NOT NULL, 
	"transaction" TEXT NOT NULL, 
	state TEXT NOT NULL, 
	version TEXT NOT NULL, 
	release_sha256 BLOB NOT NULL, 
	verdict TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	code TEXT NOT NULL, 
	evidence TEXT NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (position), 
	CONSTRAINT uq_events_id UNIQUE (host_id, id)
);
CREATE TABLE gaps (
	"after" BIGINT NOT NULL, 
	"before" BIGINT NOT NULL, 
	CONSTRAINT pk_gaps PRIMARY KEY ("before")
);
INSERT INTO "gaps" VALUES(1700000000000,1700003600000);
CREATE TABLE hosts (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	serial TEXT NOT NULL, 
	key_sha256 BLOB NOT NULL, 
	certificate_pem BLOB NOT NULL, 
	not_after_unix_ms BIGINT NOT NULL, 
	enrolled_unix_ms BIGINT NOT NULL, 
	labels JSON NOT NULL, 
	parameters JSON NOT NULL, 
	status TEXT NOT NULL, 
	previous_serial TEXT NOT NULL, 
	agent_version TEXT NOT NULL, 
	platform TEXT NOT NULL, 
	boot_id TEXT NOT NULL, 
	last_seen_unix_ms BIGINT NOT NULL, 
	state_revision BIGINT NOT NULL, holds JSON DEFAULT '[]' NOT NULL, released_unix_ms BIGINT DEFAULT 0 NOT NULL, change BIGINT DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_hosts PRIMARY KEY (id), 
	CONSTRAINT uq_hosts_name UNIQUE (name)
);
INSERT INTO "hosts" VALUES('id-h1','h1','dev','1',X'0101010101010101010101010101010101010101010101010101010101010101',X'',1700000010000,1700000000000,'{"role": "web"}','{}','active','','','','',0,-1,'[{"app": "hello", "by": "root", "reason": "the till is open", "since_unix_ms": 1700000000000, "until_unix_ms": 1700007200000}]',1699999999999,1);
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	seat TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	beat BIGINT NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('rollouts','holder-1','seat-1',3,7);
CREATE TABLE metadata_files (
	name TEXT NOT NULL, 
	data BLOB NOT NULL, 
	CONSTRAINT pk_metadata_files PRIMARY KEY (name)
);
CREATE TABLE numbers (
	name TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	CONSTRAINT pk_numbers PRIMARY KEY (name)
);
INSERT INTO "numbers" VALUES('generation',1);
INSERT INTO "numbers" VALUES('change',1);
CREATE TABLE releases (
	app TEXT NOT NULL, 
	version TEXT NOT NULL, 
	counter BIGINT NOT NULL, 
	sha256 BLOB NOT NULL, 
	data BLOB NOT NULL, 
	published_unix_ms BIGINT NOT NULL, 
	published_by TEXT NOT NULL, 
	CONSTRAINT pk_releases PRIMARY KEY (app, version)
);
CREATE TABLE retreats (
	assignment_id TEXT NOT NULL, 
	host_id TEXT NOT NULL, 
	at_unix_ms BIGINT NOT NULL, 
	arrived_unix_ms BIGINT NOT NULL, 
	CONSTRAINT pk_retreats PRIMARY KEY (assignment_id, host_id)
);
INSERT INTO "retreats" VALUES('a1','id-h1',8,9);
CREATE TABLE settings (
	environment TEXT NOT NULL, 
	label TEXT NOT NULL, 
	app TEXT NOT NULL, 
	name TEXT NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_settings PRIMARY KEY (environment, label, app, name)
);
INSERT INTO "settings" VALUES('dev','rack=7','hello','port','8080');
CREATE TABLE token_uses (
	token_id TEXT NOT NULL, 
	key_sha256 BLOB NOT NULL, 
	host_id TEXT NOT NULL, 
	certificate_pem BLOB NOT NULL, 
	CONSTRAINT pk_token_uses PRIMARY KEY (token_id, key_sha256)
);
CREATE TABLE tokens (
	id TEXT NOT NULL, 
	secret_sha256 BLOB NOT NULL, 
	environment TEXT NOT NULL, 
	uses_left BIGINT NOT NULL, 
	expires_unix_ms BIGINT NOT NULL, 
	created_unix_ms BIGINT NOT NULL, 
	created_by TEXT NOT NULL, 
	labels JSON NOT NULL, 
	CONSTRAINT pk_tokens PRIMARY KEY (id)
);
CREATE INDEX ix_admissions_host ON admissions (host_id);
CREATE INDEX ix_app_states_app ON app_states (app);
CREATE INDEX ix_assignments_rule ON assignments (environment, app);
CREATE INDEX ix_hosts_key ON hosts (key_sha256);
CREATE INDEX ix_hosts_change ON hosts (environment, change);
COMMIT;

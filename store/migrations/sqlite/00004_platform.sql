-- +goose Up

-- What a person has to look at. While acked_at is 0, the same thing again counts here.
CREATE TABLE alarms (
	id       TEXT PRIMARY KEY,
	kind     TEXT NOT NULL,
	subject  TEXT NOT NULL,
	text     TEXT NOT NULL,
	first_at INTEGER NOT NULL,
	last_at  INTEGER NOT NULL,
	times    INTEGER NOT NULL DEFAULT 1,
	acked_at INTEGER NOT NULL DEFAULT 0,
	acked_by TEXT NOT NULL DEFAULT '',
	note     TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX alarms_open ON alarms (kind, subject) WHERE acked_at = 0;
CREATE INDEX alarms_last ON alarms (last_at, id);
CREATE INDEX alarms_acked ON alarms (acked_at) WHERE acked_at > 0;

-- Days whose bill was compared with our books.
CREATE TABLE reconciliations (
	day         TEXT PRIMARY KEY, -- 2026-11-20, Beijing
	state       TEXT NOT NULL,
	reason      TEXT NOT NULL,
	payments    INTEGER NOT NULL,
	paid_fen    INTEGER NOT NULL,
	refunds     INTEGER NOT NULL,
	refund_fen  INTEGER NOT NULL,
	fee_fen     INTEGER NOT NULL,
	differences INTEGER NOT NULL,
	at          INTEGER NOT NULL
) STRICT;
CREATE TABLE differences (
	day            TEXT NOT NULL REFERENCES reconciliations,
	n              INTEGER NOT NULL,
	what           TEXT NOT NULL,
	out_trade_no   TEXT NOT NULL,
	out_refund_no  TEXT NOT NULL,
	transaction_id TEXT NOT NULL,
	their_fen      INTEGER NOT NULL,
	our_fen        INTEGER NOT NULL,
	PRIMARY KEY (day, n)
) STRICT;
CREATE INDEX payments_paid ON payments (paid_at);
CREATE INDEX refunds_created ON refunds (created_at);

-- Verified notifies of WeChat Pay that were taken.
CREATE TABLE notifies (
	notify TEXT PRIMARY KEY,
	at     INTEGER NOT NULL
) STRICT;
CREATE INDEX notifies_at ON notifies (at);

ALTER TABLE orders ADD COLUMN is_virtual INTEGER NOT NULL DEFAULT 0; -- nothing is sent by post

-- How orders were delivered, as WeChat is told.
CREATE TABLE shipments (
	out_trade_no TEXT PRIMARY KEY REFERENCES orders,
	state        TEXT NOT NULL,
	logistics    INTEGER NOT NULL,
	complete     INTEGER NOT NULL,
	parcels      BLOB, -- JSON
	asked_by     TEXT NOT NULL,
	asked_at     INTEGER NOT NULL,
	version      INTEGER NOT NULL DEFAULT 1,
	told_at      INTEGER NOT NULL DEFAULT 0, -- when WeChat took it
	reason       TEXT NOT NULL DEFAULT '',
	received_at  INTEGER NOT NULL DEFAULT 0,
	settled_at   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What is too long for the scene of a mini-program code.
CREATE TABLE scenes (
	id      TEXT PRIMARY KEY,
	same    TEXT NOT NULL UNIQUE, -- digest of the scene
	scene   TEXT NOT NULL,
	user_id TEXT NOT NULL,
	at      INTEGER NOT NULL
) STRICT;
CREATE INDEX scenes_user ON scenes (user_id, at);

-- What the platform told beyond conversations.
CREATE TABLE events (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	account TEXT NOT NULL, -- mini or mp
	kind    TEXT NOT NULL,
	user_id TEXT NOT NULL,
	about   BLOB, -- JSON
	at      INTEGER NOT NULL
) STRICT;
CREATE INDEX events_at ON events (at);
CREATE INDEX events_kind ON events (kind, seq);
CREATE INDEX events_user ON events (user_id, seq) WHERE user_id <> '';

-- Pictures that WeChat judges.
CREATE TABLE media_checks (
	trace_id TEXT PRIMARY KEY,
	user_id  TEXT NOT NULL,
	url      TEXT NOT NULL,
	verdict  TEXT NOT NULL DEFAULT '', -- empty: not yet
	at       INTEGER NOT NULL
) STRICT;
CREATE INDEX media_checks_at ON media_checks (at);
CREATE INDEX media_checks_user ON media_checks (user_id);

-- +goose Down
DROP TABLE media_checks;
DROP TABLE events;
DROP TABLE scenes;
DROP TABLE shipments;
ALTER TABLE orders DROP COLUMN is_virtual;
DROP TABLE notifies;
DROP INDEX refunds_created;
DROP INDEX payments_paid;
DROP TABLE differences;
DROP TABLE reconciliations;
DROP TABLE alarms;

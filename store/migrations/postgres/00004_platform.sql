-- +goose Up

-- What a person has to look at. While acked_at is 0, the same thing again counts here.
CREATE TABLE alarms (
	id       TEXT PRIMARY KEY,
	kind     TEXT NOT NULL,
	subject  TEXT NOT NULL,
	text     TEXT NOT NULL,
	first_at BIGINT NOT NULL,
	last_at  BIGINT NOT NULL,
	times    BIGINT NOT NULL DEFAULT 1,
	acked_at BIGINT NOT NULL DEFAULT 0,
	acked_by TEXT NOT NULL DEFAULT '',
	note     TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX alarms_open ON alarms (kind, subject) WHERE acked_at = 0;
CREATE INDEX alarms_last ON alarms (last_at, id);
CREATE INDEX alarms_acked ON alarms (acked_at) WHERE acked_at > 0;

-- Days whose bill was compared with our books.
CREATE TABLE reconciliations (
	day         TEXT PRIMARY KEY, -- 2026-11-20, Beijing
	state       TEXT NOT NULL,
	reason      TEXT NOT NULL,
	payments    BIGINT NOT NULL,
	paid_fen    BIGINT NOT NULL,
	refunds     BIGINT NOT NULL,
	refund_fen  BIGINT NOT NULL,
	fee_fen     BIGINT NOT NULL,
	differences BIGINT NOT NULL,
	at          BIGINT NOT NULL
);
CREATE TABLE differences (
	day            TEXT NOT NULL REFERENCES reconciliations,
	n              BIGINT NOT NULL,
	what           TEXT NOT NULL,
	out_trade_no   TEXT NOT NULL,
	out_refund_no  TEXT NOT NULL,
	transaction_id TEXT NOT NULL,
	their_fen      BIGINT NOT NULL,
	our_fen        BIGINT NOT NULL,
	PRIMARY KEY (day, n)
);
CREATE INDEX payments_paid ON payments (paid_at);
CREATE INDEX refunds_created ON refunds (created_at);

-- Verified notifies of WeChat Pay that were taken.
CREATE TABLE notifies (
	notify TEXT PRIMARY KEY,
	at     BIGINT NOT NULL
);
CREATE INDEX notifies_at ON notifies (at);

ALTER TABLE orders ADD COLUMN is_virtual BOOLEAN NOT NULL DEFAULT FALSE; -- nothing is sent by post

-- How orders were delivered, as WeChat is told.
CREATE TABLE shipments (
	out_trade_no TEXT PRIMARY KEY REFERENCES orders,
	state        TEXT NOT NULL,
	logistics    BIGINT NOT NULL,
	complete     BOOLEAN NOT NULL,
	parcels      BYTEA, -- JSON
	asked_by     TEXT NOT NULL,
	asked_at     BIGINT NOT NULL,
	version      BIGINT NOT NULL DEFAULT 1,
	told_at      BIGINT NOT NULL DEFAULT 0, -- when WeChat took it
	reason       TEXT NOT NULL DEFAULT '',
	received_at  BIGINT NOT NULL DEFAULT 0,
	settled_at   BIGINT NOT NULL DEFAULT 0
);

-- What is too long for the scene of a mini-program code.
CREATE TABLE scenes (
	id      TEXT PRIMARY KEY,
	same    TEXT NOT NULL UNIQUE, -- digest of the scene
	scene   TEXT NOT NULL,
	user_id TEXT NOT NULL,
	at      BIGINT NOT NULL
);
CREATE INDEX scenes_user ON scenes (user_id, at);

-- What the platform told beyond conversations.
CREATE TABLE events (
	seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	account TEXT NOT NULL, -- mini or mp
	kind    TEXT NOT NULL,
	user_id TEXT NOT NULL,
	about   BYTEA, -- JSON
	at      BIGINT NOT NULL
);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_kind ON events (kind, seq);
CREATE INDEX events_user ON events (user_id, seq) WHERE user_id <> '';

-- Pictures that WeChat judges.
CREATE TABLE media_checks (
	trace_id TEXT PRIMARY KEY,
	user_id  TEXT NOT NULL,
	url      TEXT NOT NULL,
	verdict  TEXT NOT NULL DEFAULT '', -- empty: not yet
	at       BIGINT NOT NULL
);
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

-- Times are milliseconds UTC (0: never), money is integers of fen.

-- +goose Up
CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT;

CREATE TABLE users (
	id              TEXT PRIMARY KEY,
	app_id          TEXT NOT NULL,
	open_id         TEXT NOT NULL,
	union_id        TEXT NOT NULL DEFAULT '',
	nickname        TEXT NOT NULL DEFAULT '',
	avatar          TEXT NOT NULL DEFAULT '',
	blocked         INTEGER NOT NULL DEFAULT 0,
	created_at      INTEGER NOT NULL,
	seen_at         INTEGER NOT NULL,
	session_key     BLOB, -- sealed
	session_key_kid TEXT NOT NULL DEFAULT '',
	UNIQUE (app_id, open_id)
) STRICT;

CREATE TABLE revocations (
	token_id   TEXT PRIMARY KEY,
	expires_at INTEGER NOT NULL,
	at         INTEGER NOT NULL
) STRICT;
CREATE INDEX revocations_at ON revocations (at);
CREATE INDEX revocations_expires ON revocations (expires_at);

CREATE TABLE orders (
	out_trade_no      TEXT PRIMARY KEY,
	app_id            TEXT NOT NULL,
	mch_id            TEXT NOT NULL,
	user_id           TEXT NOT NULL,
	open_id           TEXT NOT NULL,
	product_id        TEXT NOT NULL,
	description       TEXT NOT NULL,
	quantity          INTEGER NOT NULL,
	total_fen         INTEGER NOT NULL,
	refunded_fen      INTEGER NOT NULL DEFAULT 0,
	currency          TEXT NOT NULL,
	room              TEXT NOT NULL,
	state             TEXT NOT NULL,
	prepay_id         TEXT NOT NULL DEFAULT '',
	prepay_expires_at INTEGER NOT NULL DEFAULT 0,
	transaction_id    TEXT NOT NULL DEFAULT '',
	late              INTEGER NOT NULL DEFAULT 0,
	created_at        INTEGER NOT NULL,
	paid_at           INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX orders_created ON orders (created_at, out_trade_no);
CREATE INDEX orders_user ON orders (user_id, created_at, out_trade_no);
CREATE INDEX orders_state ON orders (state, created_at, out_trade_no);

CREATE TABLE payments (
	transaction_id TEXT PRIMARY KEY,
	out_trade_no   TEXT NOT NULL REFERENCES orders,
	app_id         TEXT NOT NULL,
	mch_id         TEXT NOT NULL,
	open_id        TEXT NOT NULL,
	total_fen      INTEGER NOT NULL,
	payer_fen      INTEGER NOT NULL,
	currency       TEXT NOT NULL,
	paid_at        INTEGER NOT NULL,
	raw            BLOB,
	recorded_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX payments_order ON payments (out_trade_no);

CREATE TABLE conflicts (
	transaction_id TEXT NOT NULL,
	out_trade_no   TEXT NOT NULL,
	reason         TEXT NOT NULL,
	app_id         TEXT NOT NULL,
	mch_id         TEXT NOT NULL,
	open_id        TEXT NOT NULL,
	total_fen      INTEGER NOT NULL,
	payer_fen      INTEGER NOT NULL,
	currency       TEXT NOT NULL,
	paid_at        INTEGER NOT NULL,
	raw            BLOB,
	at             INTEGER NOT NULL,
	times          INTEGER NOT NULL DEFAULT 1,
	PRIMARY KEY (transaction_id, out_trade_no, reason)
) STRICT;
CREATE INDEX conflicts_at ON conflicts (at);

CREATE TABLE mailboxes (
	user_id   TEXT PRIMARY KEY,
	head      INTEGER NOT NULL DEFAULT 0,
	acked     INTEGER NOT NULL DEFAULT 0,
	newest_at INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE letters (
	user_id   TEXT NOT NULL,
	seq       INTEGER NOT NULL,
	id        TEXT NOT NULL,
	action    TEXT NOT NULL,
	payload   BLOB,
	at        INTEGER NOT NULL,
	stored_at INTEGER NOT NULL, -- never decreases with seq
	PRIMARY KEY (user_id, seq),
	UNIQUE (user_id, id)
) STRICT;
CREATE INDEX letters_stored ON letters (stored_at);

CREATE TABLE outbox (
	seq        INTEGER PRIMARY KEY AUTOINCREMENT,
	kind       TEXT NOT NULL,
	recipient  TEXT NOT NULL,
	id         TEXT NOT NULL,
	action     TEXT NOT NULL,
	payload    BLOB,
	created_at INTEGER NOT NULL,
	due_at     INTEGER NOT NULL DEFAULT 0, -- while owned: when the lease ends
	owner      TEXT NOT NULL DEFAULT '',
	attempts   INTEGER NOT NULL DEFAULT 0,
	state      INTEGER NOT NULL DEFAULT 0, -- 0 waiting, 1 settled, 2 dead
	ended_at   INTEGER NOT NULL DEFAULT 0,
	reason     TEXT NOT NULL DEFAULT '',
	UNIQUE (kind, recipient, id)
) STRICT;
CREATE INDEX outbox_waiting ON outbox (seq, due_at, kind, recipient) WHERE state = 0;
CREATE INDEX outbox_lane ON outbox (kind, recipient, due_at, seq) WHERE state = 0;
CREATE INDEX outbox_settled ON outbox (ended_at) WHERE state = 1;
CREATE INDEX outbox_dead ON outbox (ended_at) WHERE state = 2;

CREATE TABLE conversations (
	id        TEXT PRIMARY KEY,
	user_id   TEXT NOT NULL UNIQUE,
	last_at   INTEGER NOT NULL DEFAULT 0, -- 0: nothing was said yet
	last_text TEXT NOT NULL DEFAULT '',
	unread    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX conversations_last ON conversations (last_at);

CREATE TABLE talks (
	seq             INTEGER PRIMARY KEY AUTOINCREMENT,
	conversation_id TEXT NOT NULL REFERENCES conversations,
	id              TEXT NOT NULL UNIQUE,
	speaker         TEXT NOT NULL,
	msg_id          TEXT NOT NULL,
	type            TEXT NOT NULL,
	content         TEXT NOT NULL,
	pic_url         TEXT NOT NULL,
	media_id        TEXT NOT NULL,
	title           TEXT NOT NULL,
	page_path       TEXT NOT NULL,
	at              INTEGER NOT NULL
) STRICT;
CREATE INDEX talks_conversation ON talks (conversation_id, seq);

CREATE TABLE pushes (
	app_id TEXT NOT NULL,
	push   TEXT NOT NULL,
	answer BLOB,
	at     INTEGER NOT NULL,
	PRIMARY KEY (app_id, push)
) STRICT;
CREATE INDEX pushes_at ON pushes (at);

CREATE TABLE platform_tokens (
	name       TEXT PRIMARY KEY,
	token      BLOB NOT NULL, -- sealed
	kid        TEXT NOT NULL,
	expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE leases (
	name     TEXT PRIMARY KEY,
	owner    TEXT NOT NULL,
	until_at INTEGER NOT NULL
) STRICT;

CREATE TABLE broadcasts (
	id        TEXT PRIMARY KEY,
	body_hash BLOB NOT NULL,
	answer    BLOB,
	at        INTEGER NOT NULL
) STRICT;
CREATE INDEX broadcasts_at ON broadcasts (at);

-- +goose Down
DROP TABLE broadcasts;
DROP TABLE leases;
DROP TABLE platform_tokens;
DROP TABLE pushes;
DROP TABLE talks;
DROP TABLE conversations;
DROP TABLE outbox;
DROP TABLE letters;
DROP TABLE mailboxes;
DROP TABLE conflicts;
DROP TABLE payments;
DROP TABLE orders;
DROP TABLE revocations;
DROP TABLE users;
DROP TABLE meta;

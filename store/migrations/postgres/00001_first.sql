-- Times are milliseconds UTC (0: never), money is integers of fen.

-- +goose Up
CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
);

CREATE TABLE users (
	id              TEXT PRIMARY KEY,
	app_id          TEXT NOT NULL,
	open_id         TEXT NOT NULL,
	union_id        TEXT NOT NULL DEFAULT '',
	nickname        TEXT NOT NULL DEFAULT '',
	avatar          TEXT NOT NULL DEFAULT '',
	blocked         BOOLEAN NOT NULL DEFAULT FALSE,
	created_at      BIGINT NOT NULL,
	seen_at         BIGINT NOT NULL,
	session_key     BYTEA, -- sealed
	session_key_kid TEXT NOT NULL DEFAULT '',
	UNIQUE (app_id, open_id)
);

CREATE TABLE revocations (
	token_id   TEXT PRIMARY KEY,
	expires_at BIGINT NOT NULL,
	at         BIGINT NOT NULL
);
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
	quantity          BIGINT NOT NULL,
	total_fen         BIGINT NOT NULL,
	refunded_fen      BIGINT NOT NULL DEFAULT 0,
	currency          TEXT NOT NULL,
	room              TEXT NOT NULL,
	state             TEXT NOT NULL,
	prepay_id         TEXT NOT NULL DEFAULT '',
	prepay_expires_at BIGINT NOT NULL DEFAULT 0,
	transaction_id    TEXT NOT NULL DEFAULT '',
	late              BOOLEAN NOT NULL DEFAULT FALSE,
	created_at        BIGINT NOT NULL,
	paid_at           BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX orders_created ON orders (created_at, out_trade_no);
CREATE INDEX orders_user ON orders (user_id, created_at, out_trade_no);
CREATE INDEX orders_state ON orders (state, created_at, out_trade_no);

CREATE TABLE payments (
	transaction_id TEXT PRIMARY KEY,
	out_trade_no   TEXT NOT NULL REFERENCES orders,
	app_id         TEXT NOT NULL,
	mch_id         TEXT NOT NULL,
	open_id        TEXT NOT NULL,
	total_fen      BIGINT NOT NULL,
	payer_fen      BIGINT NOT NULL,
	currency       TEXT NOT NULL,
	paid_at        BIGINT NOT NULL,
	raw            BYTEA,
	recorded_at    BIGINT NOT NULL
);
CREATE INDEX payments_order ON payments (out_trade_no);

CREATE TABLE conflicts (
	transaction_id TEXT NOT NULL,
	out_trade_no   TEXT NOT NULL,
	reason         TEXT NOT NULL,
	app_id         TEXT NOT NULL,
	mch_id         TEXT NOT NULL,
	open_id        TEXT NOT NULL,
	total_fen      BIGINT NOT NULL,
	payer_fen      BIGINT NOT NULL,
	currency       TEXT NOT NULL,
	paid_at        BIGINT NOT NULL,
	raw            BYTEA,
	at             BIGINT NOT NULL,
	times          BIGINT NOT NULL DEFAULT 1,
	PRIMARY KEY (transaction_id, out_trade_no, reason)
);
CREATE INDEX conflicts_at ON conflicts (at);

CREATE TABLE mailboxes (
	user_id   TEXT PRIMARY KEY,
	head      BIGINT NOT NULL DEFAULT 0,
	acked     BIGINT NOT NULL DEFAULT 0,
	newest_at BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE letters (
	user_id   TEXT NOT NULL,
	seq       BIGINT NOT NULL,
	id        TEXT NOT NULL,
	action    TEXT NOT NULL,
	payload   BYTEA,
	at        BIGINT NOT NULL,
	stored_at BIGINT NOT NULL, -- never decreases with seq
	PRIMARY KEY (user_id, seq),
	UNIQUE (user_id, id)
);
CREATE INDEX letters_stored ON letters (stored_at);

CREATE TABLE outbox (
	seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind       TEXT NOT NULL,
	recipient  TEXT NOT NULL,
	id         TEXT NOT NULL,
	action     TEXT NOT NULL,
	payload    BYTEA,
	created_at BIGINT NOT NULL,
	due_at     BIGINT NOT NULL DEFAULT 0, -- while owned: when the lease ends
	owner      TEXT NOT NULL DEFAULT '',
	attempts   BIGINT NOT NULL DEFAULT 0,
	state      BIGINT NOT NULL DEFAULT 0, -- 0 waiting, 1 settled, 2 dead
	ended_at   BIGINT NOT NULL DEFAULT 0,
	reason     TEXT NOT NULL DEFAULT '',
	UNIQUE (kind, recipient, id)
);
CREATE INDEX outbox_waiting ON outbox (seq, due_at, kind, recipient) WHERE state = 0;
CREATE INDEX outbox_lane ON outbox (kind, recipient, due_at, seq) WHERE state = 0;
CREATE INDEX outbox_settled ON outbox (ended_at) WHERE state = 1;
CREATE INDEX outbox_dead ON outbox (ended_at) WHERE state = 2;

CREATE TABLE conversations (
	id        TEXT PRIMARY KEY,
	user_id   TEXT NOT NULL UNIQUE,
	last_at   BIGINT NOT NULL DEFAULT 0, -- 0: nothing was said yet
	last_text TEXT NOT NULL DEFAULT '',
	unread    BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX conversations_last ON conversations (last_at);

CREATE TABLE talks (
	seq             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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
	at              BIGINT NOT NULL
);
CREATE INDEX talks_conversation ON talks (conversation_id, seq);

CREATE TABLE pushes (
	app_id TEXT NOT NULL,
	push   TEXT NOT NULL,
	answer BYTEA,
	at     BIGINT NOT NULL,
	PRIMARY KEY (app_id, push)
);
CREATE INDEX pushes_at ON pushes (at);

CREATE TABLE platform_tokens (
	name       TEXT PRIMARY KEY,
	token      BYTEA NOT NULL, -- sealed
	kid        TEXT NOT NULL,
	expires_at BIGINT NOT NULL
);

CREATE TABLE leases (
	name     TEXT PRIMARY KEY,
	owner    TEXT NOT NULL,
	until_at BIGINT NOT NULL
);

CREATE TABLE broadcasts (
	id        TEXT PRIMARY KEY,
	body_hash BYTEA NOT NULL,
	answer    BYTEA,
	at        BIGINT NOT NULL
);
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

-- +goose Up
ALTER TABLE users ADD COLUMN phone BYTEA; -- sealed
ALTER TABLE users ADD COLUMN phone_kid TEXT NOT NULL DEFAULT '';
CREATE INDEX users_union ON users (union_id) WHERE union_id <> '';

-- The newest decision about a user's id, whether or not users knows it.
CREATE TABLE blocks (
	user_id TEXT PRIMARY KEY,
	blocked BOOLEAN NOT NULL,
	erased  BOOLEAN NOT NULL DEFAULT FALSE, -- the id stays dead
	at      BIGINT NOT NULL
);
CREATE INDEX blocks_at ON blocks (at);

ALTER TABLE revocations ADD COLUMN keep BOOLEAN NOT NULL DEFAULT FALSE;

ALTER TABLE orders ADD COLUMN queried_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX orders_open_id ON orders (open_id, created_at, out_trade_no);
CREATE INDEX payments_open_id ON payments (open_id) WHERE open_id <> '';

CREATE TABLE refunds (
	out_refund_no TEXT PRIMARY KEY,
	out_trade_no  TEXT NOT NULL REFERENCES orders,
	refund_id     TEXT NOT NULL DEFAULT '',
	reason        TEXT NOT NULL,
	state         TEXT NOT NULL,
	fen           BIGINT NOT NULL,
	asked_by      TEXT NOT NULL,
	created_at    BIGINT NOT NULL,
	done_at       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX refunds_order ON refunds (out_trade_no);
CREATE INDEX refunds_processing ON refunds (created_at) WHERE state = 'processing';

ALTER TABLE mailboxes ADD COLUMN erased BOOLEAN NOT NULL DEFAULT FALSE; -- takes no mail any more

ALTER TABLE conversations ADD COLUMN last_user_at BIGINT NOT NULL DEFAULT 0;
UPDATE conversations SET last_user_at = COALESCE(
	(SELECT MAX(at) FROM talks WHERE conversation_id = conversations.id AND speaker = 'user'), 0);

ALTER TABLE pushes ADD COLUMN open_id TEXT NOT NULL DEFAULT '';
CREATE INDEX pushes_open_id ON pushes (app_id, open_id) WHERE open_id <> '';

CREATE TABLE followers (
	app_id   TEXT NOT NULL,
	open_id  TEXT NOT NULL,
	union_id TEXT NOT NULL,
	nickname TEXT NOT NULL,
	scene    TEXT NOT NULL,
	at       BIGINT NOT NULL,
	PRIMARY KEY (app_id, open_id)
);
CREATE INDEX followers_union ON followers (union_id) WHERE union_id <> '';

CREATE TABLE pictures (
	id           TEXT PRIMARY KEY,
	same         TEXT NOT NULL UNIQUE, -- what makes it the same picture
	user_id      TEXT NOT NULL,
	content_type TEXT NOT NULL,
	data         BYTEA NOT NULL,
	created_at   BIGINT NOT NULL
);
CREATE INDEX pictures_user ON pictures (user_id, created_at);

CREATE TABLE audits (
	seq   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	who   TEXT NOT NULL,
	what  TEXT NOT NULL,
	about TEXT NOT NULL,
	at    BIGINT NOT NULL
);

CREATE TABLE nodes (
	id                TEXT PRIMARY KEY,
	version           TEXT NOT NULL,
	addr              TEXT NOT NULL,
	started_at        BIGINT NOT NULL,
	seen_at           BIGINT NOT NULL,
	sockets           BIGINT NOT NULL,
	rooms             BIGINT NOT NULL,
	users             BIGINT NOT NULL,
	published_per_sec DOUBLE PRECISION NOT NULL
);

-- +goose Down
DROP TABLE nodes;
DROP TABLE audits;
DROP TABLE pictures;
DROP TABLE followers;
DROP INDEX pushes_open_id;
ALTER TABLE pushes DROP COLUMN open_id;
ALTER TABLE conversations DROP COLUMN last_user_at;
ALTER TABLE mailboxes DROP COLUMN erased;
DROP TABLE refunds;
DROP INDEX payments_open_id;
DROP INDEX orders_open_id;
ALTER TABLE orders DROP COLUMN queried_at;
ALTER TABLE revocations DROP COLUMN keep;
DROP TABLE blocks;
DROP INDEX users_union;
ALTER TABLE users DROP COLUMN phone_kid;
ALTER TABLE users DROP COLUMN phone;

-- +goose Up

-- What became of a letter; 0: not yet.
ALTER TABLE letters ADD COLUMN relayed_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE letters ADD COLUMN relayed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE letters ADD COLUMN written_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE letters ADD COLUMN written_by TEXT NOT NULL DEFAULT '';
ALTER TABLE letters ADD COLUMN slow_at BIGINT NOT NULL DEFAULT 0; -- a socket read too slowly to take it
ALTER TABLE letters ADD COLUMN acked_at BIGINT NOT NULL DEFAULT 0;
UPDATE letters SET acked_at = stored_at WHERE seq <= (SELECT acked FROM mailboxes m WHERE m.user_id = letters.user_id);
CREATE INDEX letters_id ON letters (id, user_id);

-- What became of letters that are gone.
CREATE TABLE receipts (
	user_id    TEXT NOT NULL,
	seq        BIGINT NOT NULL,
	id         TEXT NOT NULL,
	action     TEXT NOT NULL,
	stored_at  BIGINT NOT NULL,
	relayed_at BIGINT NOT NULL,
	relayed_by TEXT NOT NULL,
	written_at BIGINT NOT NULL,
	written_by TEXT NOT NULL,
	slow_at    BIGINT NOT NULL,
	acked_at   BIGINT NOT NULL,
	gone_at    BIGINT NOT NULL,
	PRIMARY KEY (user_id, seq)
);
CREATE INDEX receipts_id ON receipts (id, user_id);
CREATE INDEX receipts_gone ON receipts (gone_at);

-- Letters that may be told another way. While owned, due_at is when the lease ends.
CREATE TABLE fallbacks (
	user_id TEXT NOT NULL,
	seq     BIGINT NOT NULL,
	state   TEXT NOT NULL,
	due_at  BIGINT NOT NULL,
	owner   TEXT NOT NULL DEFAULT '',
	channel TEXT NOT NULL DEFAULT '',
	taken   TEXT NOT NULL DEFAULT '', -- what the sending under way took: spoken, brief or a template
	reason  TEXT NOT NULL DEFAULT '',
	tries   BIGINT NOT NULL DEFAULT 0, -- sendings of which the platform never heard
	seen_at BIGINT NOT NULL DEFAULT 0,
	at      BIGINT NOT NULL,
	PRIMARY KEY (user_id, seq)
);
CREATE INDEX fallbacks_due ON fallbacks (due_at) WHERE state IN ('waiting', 'sending');

-- Calls of the platform for a letter.
CREATE TABLE attempts (
	user_id TEXT NOT NULL,
	seq     BIGINT NOT NULL,
	n       BIGINT NOT NULL,
	channel TEXT NOT NULL,
	outcome TEXT NOT NULL DEFAULT '', -- empty: under way
	code    BIGINT NOT NULL DEFAULT 0,
	reason  TEXT NOT NULL DEFAULT '',
	msg_id  TEXT NOT NULL DEFAULT '',
	node    TEXT NOT NULL,
	at      BIGINT NOT NULL,
	PRIMARY KEY (user_id, seq, n)
);

-- What the platform reported afterwards about a message.
CREATE TABLE send_reports (
	msg_id TEXT PRIMARY KEY,
	code   BIGINT NOT NULL,
	reason TEXT NOT NULL,
	at     BIGINT NOT NULL
);
CREATE INDEX send_reports_at ON send_reports (at);

CREATE TABLE reply_windows (
	user_id      TEXT PRIMARY KEY,
	spoken_left  BIGINT NOT NULL DEFAULT 0,
	spoken_until BIGINT NOT NULL DEFAULT 0,
	brief_left   BIGINT NOT NULL DEFAULT 0,
	brief_until  BIGINT NOT NULL DEFAULT 0
);
INSERT INTO reply_windows (user_id, spoken_left, spoken_until)
	SELECT user_id, 5, last_user_at + 172800000 FROM conversations WHERE last_user_at > 0;

-- Subscribe messages that people let the shop send.
CREATE TABLE grants (
	user_id     TEXT NOT NULL,
	template_id TEXT NOT NULL,
	remaining   BIGINT NOT NULL,
	at          BIGINT NOT NULL,
	PRIMARY KEY (user_id, template_id)
);

-- Settings that admins change while the program runs.
CREATE TABLE documents (
	name       TEXT PRIMARY KEY,
	value      BYTEA NOT NULL,
	version    BIGINT NOT NULL,
	changed_by TEXT NOT NULL,
	changed_at BIGINT NOT NULL
);

ALTER TABLE outbox ADD COLUMN fresh_at BIGINT NOT NULL DEFAULT 0; -- when it was revived
DROP INDEX outbox_waiting;
DROP INDEX outbox_lane;
CREATE INDEX outbox_lane ON outbox (kind, recipient, seq) WHERE state = 0;
CREATE INDEX outbox_kind ON outbox (kind, seq) WHERE state = 0;

-- +goose Down
DROP INDEX outbox_kind;
DROP INDEX outbox_lane;
CREATE INDEX outbox_lane ON outbox (kind, recipient, due_at, seq) WHERE state = 0;
CREATE INDEX outbox_waiting ON outbox (seq, due_at, kind, recipient) WHERE state = 0;
ALTER TABLE outbox DROP COLUMN fresh_at;
DROP TABLE documents;
DROP TABLE grants;
DROP TABLE reply_windows;
DROP TABLE send_reports;
DROP TABLE attempts;
DROP TABLE fallbacks;
DROP TABLE receipts;
DROP INDEX letters_id;
ALTER TABLE letters DROP COLUMN acked_at;
ALTER TABLE letters DROP COLUMN slow_at;
ALTER TABLE letters DROP COLUMN written_by;
ALTER TABLE letters DROP COLUMN written_at;
ALTER TABLE letters DROP COLUMN relayed_by;
ALTER TABLE letters DROP COLUMN relayed_at;

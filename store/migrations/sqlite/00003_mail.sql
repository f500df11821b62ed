-- +goose Up

-- What became of a letter; 0: not yet.
ALTER TABLE letters ADD COLUMN relayed_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE letters ADD COLUMN relayed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE letters ADD COLUMN written_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE letters ADD COLUMN written_by TEXT NOT NULL DEFAULT '';
ALTER TABLE letters ADD COLUMN slow_at INTEGER NOT NULL DEFAULT 0; -- a socket read too slowly to take it
ALTER TABLE letters ADD COLUMN acked_at INTEGER NOT NULL DEFAULT 0;
UPDATE letters SET acked_at = stored_at WHERE seq <= (SELECT acked FROM mailboxes m WHERE m.user_id = letters.user_id);
CREATE INDEX letters_id ON letters (id, user_id);

-- What became of letters that are gone.
CREATE TABLE receipts (
	user_id    TEXT NOT NULL,
	seq        INTEGER NOT NULL,
	id         TEXT NOT NULL,
	action     TEXT NOT NULL,
	stored_at  INTEGER NOT NULL,
	relayed_at INTEGER NOT NULL,
	relayed_by TEXT NOT NULL,
	written_at INTEGER NOT NULL,
	written_by TEXT NOT NULL,
	slow_at    INTEGER NOT NULL,
	acked_at   INTEGER NOT NULL,
	gone_at    INTEGER NOT NULL,
	PRIMARY KEY (user_id, seq)
) STRICT;
CREATE INDEX receipts_id ON receipts (id, user_id);
CREATE INDEX receipts_gone ON receipts (gone_at);

-- Letters that may be told another way. While owned, due_at is when the lease ends.
CREATE TABLE fallbacks (
	user_id TEXT NOT NULL,
	seq     INTEGER NOT NULL,
	state   TEXT NOT NULL,
	due_at  INTEGER NOT NULL,
	owner   TEXT NOT NULL DEFAULT '',
	channel TEXT NOT NULL DEFAULT '',
	taken   TEXT NOT NULL DEFAULT '', -- what the sending under way took: spoken, brief or a template
	reason  TEXT NOT NULL DEFAULT '',
	tries   INTEGER NOT NULL DEFAULT 0, -- sendings of which the platform never heard
	seen_at INTEGER NOT NULL DEFAULT 0,
	at      INTEGER NOT NULL,
	PRIMARY KEY (user_id, seq)
) STRICT;
CREATE INDEX fallbacks_due ON fallbacks (due_at) WHERE state IN ('waiting', 'sending');

-- Calls of the platform for a letter.
CREATE TABLE attempts (
	user_id TEXT NOT NULL,
	seq     INTEGER NOT NULL,
	n       INTEGER NOT NULL,
	channel TEXT NOT NULL,
	outcome TEXT NOT NULL DEFAULT '', -- empty: under way
	code    INTEGER NOT NULL DEFAULT 0,
	reason  TEXT NOT NULL DEFAULT '',
	msg_id  TEXT NOT NULL DEFAULT '',
	node    TEXT NOT NULL,
	at      INTEGER NOT NULL,
	PRIMARY KEY (user_id, seq, n)
) STRICT;

-- What the platform reported afterwards about a message.
CREATE TABLE send_reports (
	msg_id TEXT PRIMARY KEY,
	code   INTEGER NOT NULL,
	reason TEXT NOT NULL,
	at     INTEGER NOT NULL
) STRICT;
CREATE INDEX send_reports_at ON send_reports (at);

CREATE TABLE reply_windows (
	user_id      TEXT PRIMARY KEY,
	spoken_left  INTEGER NOT NULL DEFAULT 0,
	spoken_until INTEGER NOT NULL DEFAULT 0,
	brief_left   INTEGER NOT NULL DEFAULT 0,
	brief_until  INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO reply_windows (user_id, spoken_left, spoken_until)
	SELECT user_id, 5, last_user_at + 172800000 FROM conversations WHERE last_user_at > 0;

-- Subscribe messages that people let the shop send.
CREATE TABLE grants (
	user_id     TEXT NOT NULL,
	template_id TEXT NOT NULL,
	remaining   INTEGER NOT NULL,
	at          INTEGER NOT NULL,
	PRIMARY KEY (user_id, template_id)
) STRICT;

-- Settings that admins change while the program runs.
CREATE TABLE documents (
	name       TEXT PRIMARY KEY,
	value      BLOB NOT NULL,
	version    INTEGER NOT NULL,
	changed_by TEXT NOT NULL,
	changed_at INTEGER NOT NULL
) STRICT;

ALTER TABLE outbox ADD COLUMN fresh_at INTEGER NOT NULL DEFAULT 0; -- when it was revived
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

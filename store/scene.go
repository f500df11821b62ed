package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// SceneMark begins the id of a kept scene, so that a page can tell it from a scene that stands for itself.
const SceneMark = "~"

// PutScene keeps what is too long for the scene of a mini-program code, for userID (empty: nobody), and returns its id:
// SceneMark and 26 random letters and digits. The same text has the same id for ever.
func (db *DB) PutScene(ctx context.Context, userID, scene string) (id string, err error) {
	var in inputs
	in.text("scene", scene, 1, maxText)
	if userID != "" {
		in.matches("UserID", userID, userIDs)
	}
	if in.err != nil {
		return "", fmt.Errorf("put scene: %w", in.err)
	}
	sum := sha256.Sum256([]byte(scene))
	same := hex.EncodeToString(sum[:])
	err = db.engine.write(ctx, func(t *tx) error {
		if _, err := t.exec("INSERT INTO scenes (id, same, scene, user_id, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (same) DO NOTHING",
			SceneMark+newID(), same, scene, userID, stamp(t.now)); err != nil {
			return err
		}
		return t.row([]any{&id}, "SELECT id FROM scenes WHERE same = ?", same)
	})
	if err != nil {
		return "", fmt.Errorf("put scene: %w", err)
	}
	return id, nil
}

// Scene finds a kept scene by its id. Absent: ErrNotFound.
func (db *DB) Scene(ctx context.Context, id string) (scene string, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		return t.row([]any{&scene}, "SELECT scene FROM scenes WHERE id = ?", id)
	})
	if err != nil {
		return "", fmt.Errorf("scene %.64q: %w", id, err)
	}
	return scene, nil
}

// CountScenes counts the scenes that userID put as the first, at or after since.
func (db *DB) CountScenes(ctx context.Context, userID string, since time.Time) (n int, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		return t.row([]any{&n}, "SELECT COUNT(*) FROM scenes WHERE user_id = ? AND at >= ?", userID, stamp(since))
	})
	if err != nil {
		return 0, fmt.Errorf("user %.64q: count scenes: %w", userID, err)
	}
	return n, nil
}

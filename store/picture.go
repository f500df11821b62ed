package store

import (
	"context"
	"fmt"
	"time"
)

// A Picture is kept so that every node can serve it.
type Picture struct {
	ID          string // random; the store makes it
	ContentType string // image/png, image/jpeg, image/gif or image/webp
	Data        []byte // 1 byte to 1 MiB
	CreatedAt   time.Time
}

// PutPicture keeps a picture for userID (empty: nobody's) under key, which is what makes it the same picture: a key that
// is known returns the picture that it has, whoever put it.
func (db *DB) PutPicture(ctx context.Context, key, userID string, p Picture) (kept Picture, err error) {
	var in inputs
	in.text("key", key, 1, maxText)
	if userID != "" {
		in.matches("UserID", userID, userIDs)
	}
	in.matches("ContentType", p.ContentType, pictureTypes)
	in.bytes("Data", p.Data, maxPicture)
	if len(p.Data) == 0 {
		in.fault("Data", "is missing")
	}
	if in.err != nil {
		return Picture{}, fmt.Errorf("put picture: %w", in.err)
	}
	err = db.engine.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO pictures (id, same, user_id, content_type, data, created_at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (same) DO NOTHING`, newID(), key, userID, p.ContentType, p.Data, stamp(t.now)); err != nil {
			return err
		}
		kept, err = t.picture("same = ?", key)
		return err
	})
	if err != nil {
		return Picture{}, fmt.Errorf("put picture: %w", err)
	}
	return kept, nil
}

// Picture finds a picture by id.
func (db *DB) Picture(ctx context.Context, id string) (p Picture, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		p, err = t.picture("id = ?", id)
		return err
	})
	if err != nil {
		return Picture{}, fmt.Errorf("picture %.64q: %w", id, err)
	}
	return p, nil
}

// PictureByKey finds a picture by what makes it the same.
func (db *DB) PictureByKey(ctx context.Context, key string) (p Picture, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		p, err = t.picture("same = ?", key)
		return err
	})
	if err != nil {
		return Picture{}, fmt.Errorf("picture by key: %w", err)
	}
	return p, nil
}

// CountPictures counts the pictures that userID put as the first, at or after since.
func (db *DB) CountPictures(ctx context.Context, userID string, since time.Time) (n int, err error) {
	err = db.engine.read(ctx, false, func(t *tx) error {
		return t.row([]any{&n}, "SELECT COUNT(*) FROM pictures WHERE user_id = ? AND created_at >= ?", userID, stamp(since))
	})
	if err != nil {
		return 0, fmt.Errorf("user %.64q: count pictures: %w", userID, err)
	}
	return n, nil
}

func (t *tx) picture(where string, arg string) (p Picture, err error) {
	var created int64
	err = t.row([]any{&p.ID, &p.ContentType, &p.Data, &created},
		"SELECT id, content_type, data, created_at FROM pictures WHERE "+where, arg)
	p.CreatedAt = moment(created)
	return p, err
}

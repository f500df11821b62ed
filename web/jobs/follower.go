package jobs

import (
	"context"
	"encoding/json"
	"errors"

	"wxhub/store"
	"wxhub/wechat"
)

// askFollower asks WeChat who an openid of the official account is, and keeps the answer. Somebody who left meanwhile
// is nobody to keep.
func (j *Jobs) askFollower(ctx context.Context, row store.OutboxRow) error {
	var at struct {
		AppID string `json:"appId"`
	}
	if err := json.Unmarshal(row.Payload, &at); err != nil || at.AppID == "" {
		return errPayload
	}
	f, err := j.mp.Follower(ctx, row.To)
	if err != nil || !f.Subscribed {
		return err
	}
	err = j.db.LearnFollower(ctx, store.Follower{
		AppID: at.AppID, OpenID: row.To, UnionID: f.UnionID, Nickname: f.Nickname, At: f.SubscribedAt,
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// appOf is the app that a row is about.
func (j *Jobs) appOf(kind store.TellingKind) string {
	if kind == store.TellCustomSend {
		return j.appID
	}
	return j.mpAppID
}

// platform is the client of the account that a row is about; nil: not configured.
func (j *Jobs) platform(kind store.TellingKind) *wechat.Client {
	if kind == store.TellCustomSend {
		return j.wechat
	}
	return j.mp
}

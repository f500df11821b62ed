package wechat

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
)

const (
	opCheckSession = "checksession"
	opResetSession = "resetusersessionkey"
	opPaidUnionID  = "getpaidunionid"
)

// CheckSession asks whether sessionKey is still this user's (wxa/checksession): nil, or ErrSessionKey: the
// phone has logged in elsewhere or too long ago, and must do so again.
// Errors: *Error, which Is ErrSessionKey, ErrOpenID, ErrTooOften, ErrBusy, ErrToken, ErrConfig, ErrNonsense or
// ErrRequest.
func (c *Client) CheckSession(ctx context.Context, openID, sessionKey string) error {
	q, err := sessionQuery(opCheckSession, openID, sessionKey)
	if err != nil {
		return err
	}
	return c.get(ctx, opCheckSession, "/wxa/checksession", q, nil, sessionKey, openID, url.QueryEscape(openID))
}

// ResetSession gives this user another session_key (wxa/resetusersessionkey) and kills sessionKey, which must
// be the newest. It is for a session_key that may have leaked. Errors: those of CheckSession; after ErrBusy the
// old key may be dead.
func (c *Client) ResetSession(ctx context.Context, openID, sessionKey string) (newKey string, err error) {
	q, err := sessionQuery(opResetSession, openID, sessionKey)
	if err != nil {
		return "", err
	}
	var got struct {
		OpenID     string `json:"openid"`
		SessionKey string `json:"session_key"`
	}
	err = c.get(ctx, opResetSession, "/wxa/resetusersessionkey", q, &got, sessionKey, openID, url.QueryEscape(openID))
	if err != nil {
		return "", err
	}
	if got.OpenID != openID || !isSessionKey(got.SessionKey) {
		return "", &Error{Op: opResetSession, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without a new session_key of that user"}
	}
	return got.SessionKey, nil
}

// sessionQuery proves that we hold the key: the HMAC of nothing, keyed with its base64 text.
func sessionQuery(op, openID, sessionKey string) (url.Values, error) {
	switch {
	case openID == "" || len(openID) > maxID:
		return nil, &Error{Op: op, Kind: ErrOpenID, Msg: "no openid, or one far too long"}
	case !isSessionKey(sessionKey):
		return nil, &Error{Op: op, Kind: ErrSessionKey, Msg: "no session_key"}
	}
	proof := hmac.New(sha256.New, []byte(sessionKey)).Sum(nil)
	return url.Values{"openid": {openID}, "signature": {hex.EncodeToString(proof)}, "sig_method": {"hmac_sha256"}}, nil
}

// PaidUnionID is the unionid of somebody who paid within the last five minutes, without a login of theirs
// (wxa/getpaidunionid); "": the app is not bound to an Open Platform account.
// Errors: *Error, which Is ErrNoOrder (not paid, too long ago, or by somebody else), ErrOpenID, ErrTooOften,
// ErrBusy, ErrToken, ErrConfig, ErrNonsense or ErrRequest.
func (c *Client) PaidUnionID(ctx context.Context, openID, transactionID string) (unionID string, err error) {
	switch {
	case openID == "" || len(openID) > maxID:
		return "", &Error{Op: opPaidUnionID, Kind: ErrOpenID, Msg: "no openid, or one far too long"}
	case !digits.MatchString(transactionID):
		return "", &Error{Op: opPaidUnionID, Kind: ErrRequest, Msg: "transaction_id must be WeChat Pay's number of the payment"}
	}
	var got struct {
		UnionID string `json:"unionid"`
	}
	q := url.Values{"openid": {openID}, "transaction_id": {transactionID}}
	switch err := c.get(ctx, opPaidUnionID, "/wxa/getpaidunionid", q, &got, openID, url.QueryEscape(openID)); {
	case hasCode(err, 89002):
		return "", nil
	case err != nil:
		return "", err
	case got.UnionID == "" || len(got.UnionID) > maxID:
		return "", &Error{Op: opPaidUnionID, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without a unionid"}
	}
	return got.UnionID, nil
}

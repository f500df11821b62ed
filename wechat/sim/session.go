package sim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// sessionSignature is hmac_sha256(session_key, "") in lower hex, the key as base64 text.
func sessionSignature(sessionKey string) string {
	return hex.EncodeToString(hmac.New(sha256.New, []byte(sessionKey)).Sum(nil))
}

// sessionCall is what checksession and resetusersessionkey are asked by: whose session, proven by the session_key.
func (s *Sim) sessionCall(c apiCall) (*user, *apiError) {
	q := c.r.URL.Query()
	if q.Get("openid") == "" || q.Get("signature") == "" {
		return nil, apiErr(40097, "invalid args")
	}
	if q.Get("sig_method") != "hmac_sha256" {
		return nil, apiErr(87008, "invalid sig_method")
	}
	u := s.byOpenid(q.Get("openid"))
	switch {
	case u == nil:
		return nil, apiErr(40003, "invalid openid")
	case u.sessionKey == "":
		return nil, apiErr(87007, "session_key is not exist or expired")
	case !u.sessionCalls.allow(s.opts.Now(), sessionCallSpan, sessionCallsAMinute):
		return nil, apiErr(45011, "api minute-quota reach limit  mustslower  retry next minute")
	case !same(q.Get("signature"), sessionSignature(u.sessionKey)):
		return nil, apiErr(87009, "invalid signature")
	}
	return u, nil
}

// checkSession is GET /wxa/checksession.
func (s *Sim) checkSession(c apiCall) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, e := s.sessionCall(c); e != nil {
		return nil, e
	}
	return apiError{0, "ok"}, nil
}

// resetSession is GET /wxa/resetusersessionkey: from now on the person has another session_key.
func (s *Sim) resetSession(c apiCall) (any, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, e := s.sessionCall(c)
	if e != nil {
		return nil, e
	}
	u.sessionKey, u.keyAt = base64Random(16), s.opts.Now()
	return struct {
		apiError
		Openid     string `json:"openid"`
		SessionKey string `json:"session_key"`
	}{apiError{0, "ok"}, u.openid, u.sessionKey}, nil
}

// paidUnionid is GET /wxa/getpaidunionid: the unionid of somebody who just paid, without a login.
func (s *Sim) paidUnionid(c apiCall) (any, *apiError) {
	q := c.r.URL.Query()
	if q.Get("openid") == "" || q.Get("transaction_id") == "" && (q.Get("mch_id") == "" || q.Get("out_trade_no") == "") {
		return nil, apiErr(40097, "invalid args")
	}
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.byOpenid(q.Get("openid"))
	if u == nil {
		return nil, apiErr(40003, "invalid openid")
	}
	o := s.find(q.Get("out_trade_no"), q.Get("transaction_id"))
	switch {
	case u.unionid == "":
		return nil, apiErr(89002, "open not exists")
	case o == nil || o.openid != u.openid || o.paidAt.IsZero() || now.Sub(o.paidAt) > paidUnionidLife,
		q.Get("transaction_id") == "" && q.Get("mch_id") != s.opts.MchID:
		return nil, apiErr(89300, "invalid order id")
	}
	return struct {
		apiError
		Unionid string `json:"unionid"`
	}{apiError{0, "ok"}, u.unionid}, nil
}

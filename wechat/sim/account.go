package sim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// account is one app of the platform: the mini-program or the official account of the same shop.
// Each has its own openids, tokens and push address; a person has one unionid for both.
type account struct {
	appID      string
	secret     string
	originalID string
	pushToken  string
	box        *pushBox // nil without an AES key
	url        string   // where its pushes go; empty: nowhere
	mode       string
	format     string
	failed     string // the notice that a user sees when the hub failed
	mini       bool   // the mini-program

	cleared window // clear_quota of this month; guarded by Sim.mu
	stable  tokens // guarded by Sim.mu
	classic tokens // guarded by Sim.mu
}

const (
	noticeFailed   = "该小程序客服暂时无法提供服务，请稍后再试"
	noticeFailedMP = "该公众号提供的服务出现故障，请稍后再试"
)

// accounts makes the two apps of checked options; mp is nil when there is no official account.
func (o *Options) accounts() (mini, mp *account, err error) {
	mini = &account{appID: o.AppID, secret: o.Secret, originalID: o.OriginalID, pushToken: o.PushToken,
		url: o.PushURL, mode: o.PushMode, format: o.PushFormat, failed: noticeFailed, mini: true}
	if err := mini.setKey(o.PushAESKey, "Push"); err != nil || o.MPAppID == "" {
		return mini, nil, err
	}
	mp = &account{appID: o.MPAppID, secret: o.MPSecret, originalID: o.MPOriginalID, pushToken: o.MPToken,
		url: o.MPURL, mode: o.MPMode, format: o.MPFormat, failed: noticeFailedMP}
	return mini, mp, mp.setKey(o.MPAESKey, "MP")
}

// setKey makes the box and fills in mode and format. name begins the options that errors speak of.
func (a *account) setKey(aesKey, name string) (err error) {
	if a.mode == "" {
		a.mode = modePlain
		if aesKey != "" {
			a.mode = modeSafe
		}
	}
	if a.format == "" {
		a.format = formatXML
		if a.mini {
			a.format = formatJSON
		}
	}
	if aesKey != "" {
		if a.box, err = newPushBox(aesKey, a.appID); err != nil {
			return fmt.Errorf("%sAESKey: %w", name, err)
		}
	}
	if err := checkPushForm(a.mode, a.format, a.box != nil); err != nil {
		return fmt.Errorf("%sMode or %sFormat: %w", name, name, err)
	}
	return nil
}

// openidOf derives an openid of this app, so that it survives a restart. Its last six characters
// vouch for the rest: known openids need no list.
func (a *account) openidOf(person string) string {
	app := sha256.Sum256([]byte(a.appID))
	id := base64.RawURLEncoding.EncodeToString(app[:])[:5] + a.stamp("name\n" + person)[:16]
	return "o" + id + a.stamp("openid\n" + id)[:6]
}

// gave tells whether an openid is one of this app.
func (a *account) gave(openid string) bool {
	return len(openid) == 28 && openid[0] == 'o' && same(a.stamp("openid\n" + openid[1:22])[:6], openid[22:])
}

func (a *account) stamp(text string) string {
	mac := hmac.New(sha256.New, []byte(a.appID+a.secret))
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// app returns the account of an appid, nil for none.
func (s *Sim) app(appID string) *account {
	switch {
	case appID == s.mini.appID:
		return s.mini
	case s.mp != nil && appID == s.mp.appID:
		return s.mp
	}
	return nil
}

// nobody owns calls of an official account that is not there.
var nobody = &account{}

// accountsOf lists the apps that there are.
func (s *Sim) accountsOf() []*account {
	if s.mp == nil {
		return []*account{s.mini}
	}
	return []*account{s.mini, s.mp}
}

// label is how lists call the app.
func (a *account) label() string {
	if a.mini {
		return "mini"
	}
	return "mp"
}

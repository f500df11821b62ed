package sim

import (
	"fmt"
	"net/http"
)

// phoneInfo is the phone number of a person, as both ways give it.
type phoneInfo struct {
	PhoneNumber     string    `json:"phoneNumber"`
	PurePhoneNumber string    `json:"purePhoneNumber"`
	CountryCode     string    `json:"countryCode"`
	Watermark       watermark `json:"watermark"`
}

// phoneOf derives a person's number from the openid: 11 digits that look like a mobile's.
func (s *Sim) phoneOf(openid string) phoneInfo {
	n := number("phone " + openid)
	text := fmt.Sprintf("1%c%09d", "35789"[n%5], uint64(n)*2_654_435_761%1_000_000_000)
	return phoneInfo{text, text, "86", watermark{s.opts.Now().Unix(), s.opts.AppID}}
}

// phone is POST /sim/phone: a person presses the button that gives the phone number away. The shop
// may use the code, or the sealed data when it still has the session_key.
func (s *Sim) phone(r *http.Request) (any, error) {
	var req struct {
		User string `json:"user"`
	}
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	s.mu.Lock()
	u, err := s.byName(req.User)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	if u.sessionKey == "" {
		s.mu.Unlock()
		return nil, &controlError{409, "not_logged_in", "POST /sim/login for this person first"}
	}
	code := &loginCode{code: random(lowerHex, 64), phone: true, openid: u.openid, sessionKey: u.sessionKey, madeAt: s.opts.Now()}
	s.addCode(code)
	s.mu.Unlock()
	iv := base64Random(16)
	sealed, err := sealUserData(code.sessionKey, iv, toJSON(s.phoneOf(code.openid)))
	if err != nil {
		return nil, fmt.Errorf("phone number of %s: %w", req.User, err)
	}
	return map[string]string{"code": code.code, "encryptedData": sealed, "iv": iv}, nil
}

// phoneNumber is POST /wxa/business/getuserphonenumber. A code of wx.login is none of the button.
func (s *Sim) phoneNumber(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	code := f.text("code", true, 256)
	if f.fault() != nil {
		return nil, apiErr(40029, "invalid code")
	}
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	got, e := s.freshCode(code, true, now)
	if e != nil {
		return nil, apiErr(40029, "invalid code") // the used one too, unlike that of wx.login
	}
	got.used = true
	return struct {
		apiError
		PhoneInfo phoneInfo `json:"phone_info"`
	}{apiError{0, "ok"}, s.phoneOf(got.openid)}, nil
}

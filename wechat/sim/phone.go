package sim

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// phoneInfo is the phone number of a person, as both ways give it.
type phoneInfo struct {
	PhoneNumber     string    `json:"phoneNumber"`
	PurePhoneNumber string    `json:"purePhoneNumber"`
	CountryCode     string    `json:"countryCode"`
	Watermark       watermark `json:"watermark"`
}

// phoneOf is a person's number: the one that was set, else derived from the openid, 11 digits that look
// like a mobile's. Needs s.mu.
func (s *Sim) phoneOf(openid string) phoneInfo {
	n := number("phone " + openid)
	text := fmt.Sprintf("1%c%09d", "35789"[n%5], uint64(n)*2_654_435_761%1_000_000_000)
	if u := s.users[openid]; u != nil && u.phone != "" {
		text = u.phone
	}
	return phoneInfo{text, text, "86", watermark{s.opts.Now().Unix(), s.opts.AppID}}
}

// phone is POST /sim/phone: a person presses the button that gives the phone number away. The shop
// may use the code, or the sealed data when it still has the session_key.
func (s *Sim) phone(r *http.Request) (any, error) {
	return s.giveSealed(r, func(openid string, mark watermark) any {
		info := s.phoneOf(openid)
		info.Watermark = mark
		return info
	}, true)
}

// runData is POST /sim/rundata: wx.getWeRunData, the steps of the last three days.
func (s *Sim) runData(r *http.Request) (any, error) {
	return s.giveSealed(r, func(openid string, mark watermark) any {
		type day struct {
			Timestamp int64 `json:"timestamp"`
			Step      int64 `json:"step"`
		}
		now := beijing(s.opts.Now())
		steps := []day{}
		for ago := 2; ago >= 0; ago-- {
			at := time.Date(now.Year(), now.Month(), now.Day()-ago, 0, 0, 0, 0, now.Location())
			steps = append(steps, day{at.Unix(), int64(2000 + number(fmt.Sprint(openid, at.Unix()))%9000)})
		}
		return struct {
			Steps     []day     `json:"stepInfoList"`
			Watermark watermark `json:"watermark"`
		}{steps, mark}
	}, false)
}

// groupEntry is POST /sim/group: wx.getGroupEnterInfo, the group from which the mini-program was opened.
func (s *Sim) groupEntry(r *http.Request) (any, error) {
	return s.giveSealed(r, func(openid string, mark watermark) any {
		return struct {
			OpenGID   string    `json:"openGId"`
			Watermark watermark `json:"watermark"`
		}{"t" + s.mini.stamp("group")[:27], mark}
	}, false)
}

var phoneShape = regexp.MustCompile(`^1[0-9]{10}$`)

// giveSealed lets a person give data to the shop under the session_key. appid and age change the
// watermark: data of another app, or old data.
func (s *Sim) giveSealed(r *http.Request, data func(openid string, mark watermark) any, withCode bool) (any, error) {
	var req struct {
		User        string `json:"user"`
		AppID       string `json:"appid"`
		Age         string `json:"age"`         // such as 10m
		PhoneNumber string `json:"phoneNumber"` // that this person has from now on
	}
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	age, err := time.ParseDuration(cmp.Or(req.Age, "0s"))
	if err != nil {
		return nil, badRequest("age is a duration such as 10m")
	}
	if req.PhoneNumber != "" && !phoneShape.MatchString(req.PhoneNumber) {
		return nil, badRequest("phoneNumber has 11 digits")
	}
	s.mu.Lock()
	u, err := s.byName(req.User)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	u.phone = cmp.Or(req.PhoneNumber, u.phone)
	if u.sessionKey == "" {
		s.mu.Unlock()
		return nil, &controlError{409, "not_logged_in", "POST /sim/login for this person first"}
	}
	openid, key, answer := u.openid, u.sessionKey, map[string]string{}
	if withCode {
		code := &loginCode{code: random(lowerHex, 64), phone: true, openid: openid, sessionKey: key, madeAt: s.opts.Now()}
		s.addCode(code)
		answer["code"] = code.code
	}
	given := data(openid, watermark{s.opts.Now().Add(-age).Unix(), cmp.Or(req.AppID, s.opts.AppID)})
	s.mu.Unlock()
	answer["iv"] = base64Random(16)
	if answer["encryptedData"], err = sealUserData(key, answer["iv"], toJSON(given)); err != nil {
		return nil, fmt.Errorf("data of %s: %w", req.User, err)
	}
	return answer, nil
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

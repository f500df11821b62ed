package sim

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// followerInfo is GET /cgi-bin/user/info of the official account. Nickname and picture are empty,
// as the platform gives them to nobody since the end of 2021.
func (s *Sim) followerInfo(c apiCall) (any, *apiError) {
	q := c.r.URL.Query()
	return s.follower(c.from, q.Get("openid"), q.Get("lang"))
}

// follower is what user/info tells of one openid.
func (s *Sim) follower(of *account, openid, lang string) (any, *apiError) {
	if lang != "" && !slices.Contains([]string{"zh_CN", "zh_TW", "en"}, lang) {
		return nil, apiErr(40097, "invalid args: lang")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.fans[openid]
	if u == nil && !of.gave(openid) {
		return nil, apiErr(40003, "invalid openid")
	}
	type none struct {
		Subscribe int    `json:"subscribe"`
		Openid    string `json:"openid"`
		TagIDs    []int  `json:"tagid_list"`
		Unionid   string `json:"unionid,omitempty"`
	}
	if u == nil {
		return none{Openid: openid, TagIDs: []int{}}, nil
	}
	if u.followedAt.IsZero() {
		return none{Openid: openid, TagIDs: []int{}, Unionid: u.unionid}, nil
	}
	scene := "ADD_SCENE_SEARCH"
	if u.followScene != "" {
		scene = "ADD_SCENE_QR_CODE"
	}
	number, _ := strconv.ParseUint(u.followScene, 10, 32) // a text scene has the number 0
	return struct {
		Subscribe      int    `json:"subscribe"`
		Openid         string `json:"openid"`
		Nickname       string `json:"nickname"`
		Sex            int    `json:"sex"`
		Language       string `json:"language"`
		City           string `json:"city"`
		Province       string `json:"province"`
		Country        string `json:"country"`
		HeadImgURL     string `json:"headimgurl"`
		SubscribeTime  int64  `json:"subscribe_time"`
		Unionid        string `json:"unionid"`
		Remark         string `json:"remark"`
		GroupID        int    `json:"groupid"`
		TagIDs         []int  `json:"tagid_list"`
		SubscribeScene string `json:"subscribe_scene"`
		QRScene        uint64 `json:"qr_scene"`
		QRSceneText    string `json:"qr_scene_str"`
	}{Subscribe: 1, Openid: openid, Language: cmp.Or(lang, "zh_CN"), SubscribeTime: u.followedAt.Unix(), Unionid: u.unionid,
		TagIDs: []int{}, SubscribeScene: scene, QRScene: number, QRSceneText: u.followScene}, nil
}

var eventName = regexp.MustCompile(`^[A-Za-z_]{1,64}$`)

// triggerPush plays what a person does in the mini-program's customer service or in the official account.
func (s *Sim) triggerPush(ctx context.Context, t Trigger, skew time.Duration) (TriggerResult, error) {
	to := s.mini
	if t.OfAccount() {
		to = s.mp
	}
	if to == nil {
		return TriggerResult{}, &controlError{409, "no_account", "start the simulator with an official account"}
	}
	form, err := t.pushForm(to, skew)
	if err != nil {
		return TriggerResult{}, err
	}
	id := int64(0)
	if t.MsgID != "" && !isEventWithID(t.Event) {
		if id, err = strconv.ParseInt(t.MsgID, 10, 64); err != nil || id <= 0 {
			return TriggerResult{}, badRequest("msgId is a positive number of 64 bits")
		}
	}
	honest := form.forge == "" && skew == 0 && id == 0 && t.CreateTime == 0 && t.Openid == ""
	u, p, err := s.act(to, t, honest)
	if err != nil {
		return TriggerResult{}, err
	}
	override(&p.openid, t.Openid)
	if id != 0 && p.msgID != 0 {
		p.msgID = id
	}
	if t.CreateTime != 0 {
		p.at = time.Unix(t.CreateTime, 0)
	}
	answers := t.each(func(try int) Answer {
		got, err := s.pushOnce(ctx, u, p, form, try)
		if err != nil && got.Error == "" {
			got.Error = err.Error()
		}
		return got
	})
	if honest {
		s.mu.Lock()
		s.show(u.talk(to.mini), answers[0].Reply)
		s.mu.Unlock()
	}
	note := fmt.Sprintf("%s, %s", form.mode, form.format)
	if form.forge != "" {
		note += "; forged: " + form.forge
	}
	if form.forge == "body" && form.mode == modePlain {
		note += " (in plain mode the signature does not cover the body)"
	}
	result := TriggerResult{Event: t.Event, CreateTime: p.at.Unix(), Answers: answers, Note: note}
	if p.msgID != 0 {
		result.MsgID = strconv.FormatInt(p.msgID, 10)
	}
	return result, nil
}

// isEventWithID tells whether the msgId of a trigger is that of the message which an event tells of.
func isEventWithID(name string) bool {
	return name == "subscribe_msg_sent_event" || strings.HasSuffix(name, "SENDJOBFINISH")
}

// OfAccount tells whether a trigger is of the official account.
func (t Trigger) OfAccount() bool {
	return slices.Contains(accountEvents, t.Event) || t.Account == "mp"
}

// pushForm reads how a push is to be dressed.
func (t Trigger) pushForm(to *account, skew time.Duration) (pushForm, error) {
	form := pushForm{url: cmp.Or(t.URL, to.url), mode: cmp.Or(t.Mode, to.mode), format: cmp.Or(t.Format, to.format), forge: t.Forge, skew: skew}
	if form.url == "" {
		return form, errNoPushURL
	}
	if err := checkPushForm(form.mode, form.format, to.box != nil); err != nil {
		return form, badRequest(err.Error())
	}
	if !slices.Contains([]string{"", "signature", "body"}, t.Forge) {
		return form, badRequest("forge is signature or body")
	}
	return form, nil
}

// act is what a person does, as a push. Only an honest one changes what WeChat knows.
func (s *Sim) act(to *account, t Trigger, honest bool) (*user, pushed, error) {
	if honest && !to.mini && !slices.Contains([]string{"follow", "unfollow", "scan"}, t.Event) { // a forger follows nobody
		if err := s.mustFollow(t); err != nil {
			return nil, pushed{}, err
		}
	}
	if t.Event == "message" || t.Event == "mptext" {
		m := spoken{Type: t.Type, Content: t.Content, PicURL: t.PicURL, Title: t.Title, PagePath: t.PagePath, URL: t.Key, Latitude: t.Latitude, Longitude: t.Longitude}
		if err := m.check(t.host, to.mini); err != nil {
			return nil, pushed{}, err
		}
		return s.write(to, t.User, m, honest)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.byName(t.User)
	if err != nil {
		return nil, pushed{}, err
	}
	if slices.Contains(platformEvents, t.Event) {
		e, err := s.platformEvent(u, t, honest)
		return u, s.eventOf(to, u, e), err
	}
	p := pushed{to: to, openid: u.openidIn(to), kind: "event", at: s.opts.Now()}
	if p.fields, err = s.eventFields(u, t, honest); err != nil {
		return nil, pushed{}, err
	}
	return u, p, nil
}

// mustFollow refuses what only followers can do.
func (s *Sim) mustFollow(t Trigger) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.byName(t.User)
	if err != nil {
		return err
	}
	if u.followedAt.IsZero() {
		return &controlError{409, "not_following", "this person does not follow the official account; trigger follow first"}
	}
	return nil
}

// eventFields are the fields of an event after MsgType. Needs s.mu.
func (s *Sim) eventFields(u *user, t Trigger, honest bool) ([]pushField, error) {
	now := s.opts.Now()
	event := func(name, key string, more ...pushField) []pushField {
		return append([]pushField{{"Event", name}, {"EventKey", key}}, more...)
	}
	ticket := pushField{"Ticket", "gQ" + random(letters+"_-", 96) + "=="}
	quota := func() {
		if honest {
			u.mp.brief, u.mp.actedAt = grant{eventQuota, now.Add(briefWindow)}, now
		}
	}
	scene := cmp.Or(t.Scene, t.Key)
	if len(scene) > 64 && t.Event != "view" || len(t.Key) > 1024 {
		return nil, badRequest("scene and key have at most 64 bytes, the key of a view 1024")
	}
	switch t.Event {
	case "follow", "scan":
		if t.Event == "scan" && scene == "" {
			return nil, badRequest("scan needs key, the scene of the QR code")
		}
		follows := !u.followedAt.IsZero()
		quota()
		if t.Event == "scan" && follows {
			return event("SCAN", scene, ticket), nil
		}
		if honest {
			u.followedAt, u.followScene = now, scene
		}
		if scene == "" {
			return event("subscribe", ""), nil
		}
		return event("subscribe", "qrscene_"+scene, ticket), nil
	case "unfollow":
		if honest {
			u.followedAt, u.followScene = time.Time{}, ""
			u.mp.spoken, u.mp.brief = grant{}, grant{}
		}
		return event("unsubscribe", ""), nil
	case "click":
		if t.Key == "" {
			return nil, badRequest("click needs key, that of the menu")
		}
		quota()
		return event("CLICK", t.Key), nil
	case "view":
		if t.Key == "" {
			return nil, badRequest("view needs key, the address behind the menu")
		}
		return event("VIEW", t.Key, pushField{"MenuId", json.Number(strconv.FormatUint(uint64(number(t.Key)), 10))}), nil
	case "location":
		if t.Latitude < -90 || t.Latitude > 90 || t.Longitude < -180 || t.Longitude > 180 {
			return nil, badRequest("latitude is -90 to 90, longitude -180 to 180")
		}
		return []pushField{{"Event", "LOCATION"}, {"Latitude", degrees(t.Latitude)}, {"Longitude", degrees(t.Longitude)}, {"Precision", degrees(65)}}, nil
	}
	return s.otherEvent(u, t, honest)
}

func degrees(v float64) json.Number { return json.Number(strconv.FormatFloat(v, 'f', 6, 64)) }

// otherEvent is entering the session, or any event by its name and fields.
func (s *Sim) otherEvent(u *user, t Trigger, honest bool) ([]pushField, error) {
	name := t.Name
	if t.Event != "event" {
		name = t.Event
	}
	if !eventName.MatchString(name) {
		return nil, badRequest("name is that of an event, such as user_enter_tempsession")
	}
	fields := []pushField{{"Event", name}}
	switch name {
	case "user_enter_tempsession":
		if len(t.SessionFrom) > 1000 {
			return nil, badRequest("sessionFrom has at most 1000 bytes")
		}
		fields = append(fields, pushField{"SessionFrom", t.SessionFrom})
		if honest {
			u.mini.actedAt = s.opts.Now()
			u.mini.brief = grant{enterQuota, u.mini.actedAt.Add(briefWindow)}
		}
	case "TEMPLATESENDJOBFINISH", "MASSSENDJOBFINISH":
		id, err := strconv.ParseInt(cmp.Or(t.MsgID, strconv.FormatInt(s.opts.Now().UnixNano(), 10)), 10, 64)
		if err != nil {
			return nil, badRequest("msgId is a number of 64 bits")
		}
		fields = append(fields, pushField{"MsgID", id}, pushField{"Status", cmp.Or(t.Status, "success")})
	case "debug_demo":
		fields = append(fields, pushField{"debug_str", cmp.Or(t.Content, "hello world")})
	default:
		if t.Key != "" {
			fields = append(fields, pushField{"EventKey", t.Key})
		}
	}
	more, err := fieldTree(t.Fields, 0)
	return append(fields, more...), err
}

const maxFieldDepth = 4

// fieldTree turns fields of the control side into fields of a push, sorted by name.
func fieldTree(raw map[string]any, depth int) (fields []pushField, err error) {
	if depth > maxFieldDepth {
		return nil, badRequest("fields are nested at most 4 deep")
	}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if !eventName.MatchString(name) {
			return nil, badRequest("fields have names of letters")
		}
		value, err := fieldValue(raw[name], depth)
		if err != nil {
			return nil, err
		}
		fields = append(fields, pushField{name, value})
	}
	return fields, nil
}

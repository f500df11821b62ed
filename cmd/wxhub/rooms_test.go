package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wxhub/hub"
)

// rulesOf reads the rules of a settings file.
func rulesOf(t *testing.T, yaml string) ([]hub.Rule, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wxhub.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := loadSettings(path, nil)
	if err != nil {
		return nil, err
	}
	return roomRules(s.Rooms)
}

func TestRooms_rules(t *testing.T) {
	rules, err := rulesOf(t, `
rooms:
  - pattern: "shop:*"
    join: claim
    publish: members
    history: 50
    history_age: 1h
    presence: ids
    announce: true
    moderate: true
    rate: 2.5
    window: 20ms
  - {pattern: "room:vip:*", join: claim}
  - pattern: "*"
    join: anyone
    presence: off
    history: 0
    history_age: 0
  - {pattern: notice, history: 5000}
  - {pattern: lobby, join: admins, publish: server}
`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hub.New(hub.Options{Rules: rules[:0:0]}); err != nil {
		t.Fatal(err)
	}
	byPattern := map[string]int{}
	for i, r := range rules {
		if _, twice := byPattern[r.Pattern]; !twice {
			byPattern[r.Pattern] = i
		}
	}
	for pattern, want := range map[string]hub.Rule{
		"shop:*": {Pattern: "shop:*", Join: hub.Nobody, Publish: hub.Member, Keep: hub.Keep{Size: 50, Age: time.Hour}, Presence: hub.PresenceIDs,
			Announce: true, Moderate: true, Rate: 2.5, Window: 20 * time.Millisecond},
		"*":          {Pattern: "*", Join: hub.Anyone, Publish: hub.Admin, Presence: hub.PresenceNone},
		"notice":     {Pattern: "notice", Join: hub.Anyone, Publish: hub.Admin, Keep: hub.Keep{Size: 5000, Age: 24 * time.Hour}, Presence: hub.PresenceCount},
		"lobby":      {Pattern: "lobby", Join: hub.Staff, Publish: hub.Nobody, Keep: hub.Keep{Size: 300, Age: 24 * time.Hour}, Presence: hub.PresenceCount},
		"room:vip:*": {Pattern: "room:vip:*", Join: hub.Nobody, Publish: hub.Member, Keep: hub.Keep{Size: 300, Age: 24 * time.Hour}, Presence: hub.PresenceIDs, Announce: true, Rate: 50, Moderate: true},
	} {
		if got := rules[byPattern[pattern]]; got != want {
			t.Errorf("%s: %+v, want %+v", pattern, got, want)
		}
	}
	if !rules[0].Mail || rules[0].Pattern != "user:*" {
		t.Errorf("mail does not stand first: %+v", rules[0])
	}
	if kf := byPattern["kf"]; kf > byPattern["*"] || kf > byPattern["shop:*"] {
		t.Error("a pattern stands before the staff's room")
	}
}

func TestRooms_builtIn(t *testing.T) {
	rules, err := roomRules(nil)
	if err != nil || len(rules) != len(hub.DefaultRules()) {
		t.Errorf("%d rules, %v", len(rules), err)
	}
}

func TestRooms_mistakes(t *testing.T) {
	for entry, want := range map[string]string{
		`{join: anyone}`:                                     "pattern is missing",
		`{pattern: 7}`:                                       "pattern is missing",
		`{pattern: "a b"}`:                                   "must be a room's name",
		`{pattern: "user:*", join: anyone}`:                  "user:ID is mail",
		`{pattern: all, join: claim}`:                        "everybody is in all",
		`{pattern: a, join: all}`:                            "join: all is none of admins, anyone, claim",
		`{pattern: a, publish: everyone}`:                    "publish: everyone is none of admins, anyone, members, server, staff",
		`{pattern: a, presence: names}`:                      "presence: names is none of count, ids, off",
		`{pattern: a, history: -1}`:                          "history: -1 does not lie between",
		`{pattern: a, history: many}`:                        "history: many is no number",
		`{pattern: a, history: 1.5}`:                         "no whole number",
		`{pattern: a, history_age: 1 day}`:                   "history_age: 1 day is no duration",
		`{pattern: a, rate: fast}`:                           "rate: fast is no number",
		`{pattern: a, window: 5s}`:                           "window: 5s is no duration between 0s and 1s",
		`{pattern: a, moderate: sometimes}`:                  "moderate: sometimes is neither",
		`{pattern: a, announce: true}`:                       "announce: needs presence: ids",
		`{pattern: a, keep: 5}`:                              "keep: there is no such key",
		`{pattern: a}, {pattern: a}`:                         "rule 2 (a): the pattern stands twice",
		`{pattern: "a*"}, {pattern: "a:b*"}`:                 "rule 2 (a:b*): is never used",
		`{pattern: a, rate: x, window: y, presence: z}`:      "window: y",
		`{pattern: a, rate: x}, {pattern: b, publish: all} `: "rule 2 (b)",
	} {
		_, err := rulesOf(t, "rooms: ["+entry+"]\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", entry, err, want)
		}
	}
	for _, yaml := range []string{"rooms: {pattern: a}\n", "rooms: [a]\n", "rooms: anyone\n"} {
		if _, err := rulesOf(t, yaml); err == nil || !strings.Contains(err.Error(), "rooms: ") {
			t.Errorf("%s: %v", yaml, err)
		}
	}
	yaml := filepath.Join(t.TempDir(), "wxhub.yaml")
	if err := os.WriteFile(yaml, []byte("rooms: [{pattern: a, join: b}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errOut := runMain(t, []string{goodKeys, "WXHUB_DATA=" + t.TempDir()}, "serve", "--config", yaml)
	if code != 1 || !strings.Contains(errOut, "rooms: rule 1 (a): join: b") {
		t.Errorf("serve: %d %s", code, errOut)
	}
}

func TestLimits_settings(t *testing.T) {
	limits := func(env ...string) (hub.Limits, error) {
		s, err := loadSettings("", env)
		if err != nil {
			t.Fatal(err)
		}
		c := &check{s: s}
		l := c.hubLimits()
		if len(c.errs) > 0 {
			return l, fmt.Errorf("%v", c.errs)
		}
		return l, nil
	}
	l, err := limits()
	if err != nil {
		t.Fatal(err)
	}
	want := hub.Limits{
		FrameBytes: 16 << 10, InflatedBytes: 64 << 10, FramesPerSecond: 20, FramesBurst: 60, BadFrames: 20, RoomsPerSocket: 128,
		SocketsPerUser: 8, UserFull: hub.CloseOldest, SocketsPerAddress: 20000, AddressFull: hub.RefuseNew,
		QueueBytes: 1 << 20, QueueFrames: 1000, WriteWait: 5 * time.Second, ConnectWait: 5 * time.Second,
	}
	if l != want {
		t.Errorf("defaults %+v, want %+v", l, want)
	}
	l, err = limits("WXHUB_LIMIT_FRAME=4096", "WXHUB_LIMIT_FRAMES=off", "WXHUB_LIMIT_USER_SOCKETS=2,refuse-new", "WXHUB_LIMIT_ADDRESS_SOCKETS=off", "WXHUB_LIMIT_QUEUE=64KiB, 50")
	if err != nil || l.FrameBytes != 4096 || l.FramesBurst < 1e9 || l.SocketsPerUser != 2 || l.UserFull != hub.RefuseNew || l.SocketsPerAddress < 1e9 ||
		l.QueueBytes != 64<<10 || l.QueueFrames != 50 {
		t.Errorf("%+v, %v", l, err)
	}
	for _, bad := range []string{
		"LIMIT_FRAME=1", "LIMIT_FRAME=16GiB", "LIMIT_FRAME=-1KiB", "LIMIT_INFLATED=1KiB", "LIMIT_FRAMES=20", "LIMIT_BAD_FRAMES=0", "LIMIT_ROOMS=many",
		"LIMIT_USER_SOCKETS=8", "LIMIT_USER_SOCKETS=8,close-newest", "LIMIT_ADDRESS_SOCKETS=0,refuse-new", "LIMIT_QUEUE=1MiB", "LIMIT_QUEUE=1,1000", "LIMIT_WRITE_WAIT=5",
	} {
		name, _, _ := strings.Cut(bad, "=")
		if _, err := limits("WXHUB_" + bad); err == nil || !strings.Contains(err.Error(), "WXHUB_"+name+":") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

package web

import (
	"strings"

	"wxhub/store"
	"wxhub/wechat"
)

// The official account: who follows, who leaves, what they press, scan and write. Answers are passive replies.

// mpEvents say what an event of the official account does; one that is not here is told to the staff.
var mpEvents = map[string]func(*desk, *wechat.PushMessage, *store.Push){
	"subscribe":   (*desk).follow,
	"unsubscribe": (*desk).unfollow,
	"CLICK":       (*desk).say, // a menu's button: as good as a word
	"SCAN":        (*desk).say, // a QR code, by somebody who follows already
	"VIEW":        (*desk).tell,
	"LOCATION":    (*desk).pass, // where people are, every five seconds: nobody's business
}

// mpPush is what a push of the official account does.
func (d *desk) mpPush(m *wechat.PushMessage) store.Push {
	p := store.Push{Key: pushKey(m), AppID: d.mpAppID, OpenID: m.FromUserName, Answer: success}
	does := (*desk).say
	if m.MsgType == "event" {
		switch own, known := mpEvents[m.Event]; {
		case known:
			does = own
		case strings.HasSuffix(m.Event, "JOBFINISH"): // the platform reports, under a follower's openid too
			does = (*desk).pass
		default:
			does = (*desk).tell
		}
	}
	does(d, m, &p)
	if p.OpenID != "" && !p.Unfollow {
		p.Opens = opens(m)
	}
	if rule, ok := d.rules.fitting(mpAccount, m); ok && p.OpenID != "" && !p.Unfollow {
		p.Answer = rule.passive(m)
		p.Reply = rule.line(talkOf(m))
	}
	return p
}

// pass takes a push of which nothing stays: nobody becomes known by it.
func (d *desk) pass(_ *wechat.PushMessage, p *store.Push) { p.OpenID = "" }

// say adds a line to the conversation and tells it to the staff.
func (d *desk) say(m *wechat.PushMessage, p *store.Push) {
	talk := talkOf(m)
	p.Talk = &talk
	d.tell(m, p)
}

// tell tells the staff, and nothing stays.
func (d *desk) tell(m *wechat.PushMessage, p *store.Push) {
	talk := talkOf(m)
	p.Tell = func(c store.Conversation, u store.User) []store.Telling {
		return []store.Telling{tellStaff(m, talk, c, u)}
	}
}

// follow keeps the follower, and has WeChat asked afterwards who they are: the unionid is in no push.
func (d *desk) follow(m *wechat.PushMessage, p *store.Push) {
	at := saidAt(m)
	p.Follow = &store.Follower{Scene: clipTo(m.SceneKey(), 128), At: at}
	p.Tell = func(_ store.Conversation, u store.User) []store.Telling {
		told := []store.Telling{tellFollow("follow", m, u)}
		if d.mpAsks {
			told = append(told, store.Telling{
				Kind: store.TellFollower, To: m.FromUserName, ID: pushID(m), Action: "user/info", Payload: payload(struct {
					AppID string `json:"appId"`
				}{d.mpAppID}),
			})
		}
		return told
	}
}

// unfollow erases what is known of somebody who leaves, as the platform demands.
func (d *desk) unfollow(m *wechat.PushMessage, p *store.Push) {
	p.Unfollow = true
	p.Tell = func(_ store.Conversation, u store.User) []store.Telling {
		return []store.Telling{tellFollow("unfollow", m, u)}
	}
}

// followTold is the payload of "follow" and "unfollow".
type followTold struct {
	User string `json:"user"`
	At   int64  `json:"at"`
}

func tellFollow(action string, m *wechat.PushMessage, u store.User) store.Telling {
	return store.Telling{
		Kind: store.TellRoom, To: customerRoom, ID: pushID(m), Action: action, Payload: payload(followTold{u.ID, saidAt(m).UnixMilli()}),
	}
}

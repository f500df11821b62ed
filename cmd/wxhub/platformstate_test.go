package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// What WeChat gives or allows once is shared by the nodes: one access token, one answer to a push, one count of replies.
func TestCluster_platformState(t *testing.T) {
	c := startCluster(t)
	one, two := c.nodes[0], c.nodes[1]
	ann := one.newPhone("ann")
	seen := map[int64]bool{}
	fetches := func() (n int) { // since the last time
		var state struct {
			Calls []struct {
				ID   int64
				Path string
			}
		}
		one.simulate("/sim/state", nil, &state)
		for _, call := range state.Calls {
			if !seen[call.ID] && strings.HasSuffix(call.Path, "token") {
				n++
			}
			seen[call.ID] = true
		}
		return n
	}
	scene := 0
	work := func(times int) { // so many calls that need the token, on both nodes at once
		t.Helper()
		var all sync.WaitGroup
		for i := range times {
			scene++
			path := fmt.Sprintf("/api/qrcode?scene=s%d", scene)
			all.Go(func() {
				if a := c.nodes[i%2].ask(http.MethodGet, path, ann.token, nil); a.Status != 200 {
					t.Errorf("%s: %d %s", path, a.Status, a.Data)
				}
			})
		}
		all.Wait()
	}

	fetches()
	work(16)
	if n := fetches(); n != 1 {
		t.Errorf("the first calls fetched %d access tokens", n)
	}

	// Somebody else makes WeChat drop it: all nodes are refused, one of them fetches.
	setting := map[string]string{}
	for _, line := range c.env {
		name, value, _ := strings.Cut(line, "=")
		setting[name] = value
	}
	one.simulate("/cgi-bin/stable_token", map[string]any{"grant_type": "client_credential", "appid": setting["WXHUB_WECHAT_APPID"],
		"secret": setting["WXHUB_WECHAT_SECRET"], "force_refresh": true}, &struct{}{})
	fetches()
	work(16)
	if n := fetches(); n > 1 {
		t.Errorf("after a refusal %d access tokens were fetched", n)
	}
	work(8)
	if n := fetches(); n != 0 {
		t.Errorf("%d access tokens were fetched without need", n)
	}

	// One message of a customer, pushed to both nodes at once.
	var pushed triggerAnswer
	var both sync.WaitGroup
	for i, p := range c.nodes {
		both.Go(func() {
			answer := &pushed
			if i > 0 {
				answer = new(triggerAnswer)
			}
			p.simulate("/sim/trigger", map[string]any{"event": "message", "user": "ann", "content": "在吗", "msgId": "7300000000000000001",
				"url": p.hub + "/wechat/push", "times": 3, "parallel": true}, answer)
		})
	}
	both.Wait()
	one.relayed()
	two.relayed()
	list := two.ask(http.MethodGet, "/api/admin/conversations", "key:"+clusterKey, nil)
	if n := strings.Count(string(list.Data), `"在吗"`); n != 1 {
		t.Errorf("the message stands %d times in %s", n, list.Data)
	}

	var conversations []struct{ ID string }
	list.into(t, &conversations)
	if len(conversations) != 1 {
		t.Fatalf("conversations: %s", list.Data)
	}
	reply := "/api/admin/conversations/" + conversations[0].ID + "/reply"

	// Ten answers from both nodes at once: as many arrive as WeChat allows, and none is refused by it.
	var taken atomic.Int32
	for i := range 10 {
		both.Go(func() {
			a := c.nodes[i%2].ask(http.MethodPost, reply, "key:"+clusterKey, map[string]any{"text": fmt.Sprint("reply ", i)})
			if a.Status == 200 {
				taken.Add(1)
			}
		})
	}
	both.Wait()
	var chat struct {
		Messages []struct{ From, Content string }
	}
	one.simulate("/sim/chat?user=ann&after=0", nil, &chat)
	arrived, automatic := 0, 0
	for _, m := range chat.Messages {
		switch {
		case m.From != "shop":
		case strings.HasPrefix(m.Content, "reply "):
			arrived++
		default:
			automatic++
		}
	}
	if arrived != int(taken.Load()) || arrived == 0 || arrived+automatic != 5 {
		t.Errorf("%d replies were taken, %d arrived beside %d automatic ones: %+v", taken.Load(), arrived, automatic, chat.Messages)
	}
}

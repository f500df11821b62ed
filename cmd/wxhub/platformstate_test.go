package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
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

	one.simulate("/sim/message", map[string]any{"user": "ann", "type": "text", "content": "你好"}, &struct{}{})

	// Another message of the customer, pushed to both nodes at once.
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

	// Ten answers from both nodes at once: as many arrive as WeChat allows, none twice.
	for i := range 10 {
		both.Go(func() {
			a := c.nodes[i%2].ask(http.MethodPost, reply, "key:"+clusterKey, map[string]any{"text": fmt.Sprint("reply ", i)})
			if a.Status != 200 && a.Status != 429 && a.Status != 409 {
				t.Errorf("reply %d: %d %s", i, a.Status, a.Data)
			}
		})
	}
	both.Wait()
	texts := map[string]int{}
	answered := func() (n int) {
		clear(texts)
		var chat struct {
			Messages []struct{ From, Content string }
		}
		one.simulate("/sim/chat?user=ann&after=0", nil, &chat)
		for _, m := range chat.Messages {
			if m.From == "shop" {
				n++
				texts[m.Content]++
			}
		}
		return n
	}
	one.wait("five answers", func() bool { return answered() >= 5 })
	time.Sleep(time.Second) // for what must not come
	if n := answered(); n != 5 || len(texts) != 5 {
		t.Errorf("%d answers arrived: %v", n, texts)
	}
}

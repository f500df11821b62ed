package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The fourth article's client, as it stands there, against the newcomer's command: weapp.socket.io of its day and the
// newest one, an address with room and userId, and an exchange every so often.
func TestDemo_articleClient(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("skipped: no node on this machine; install Node 20 or newer")
	}
	dir := filepath.Join("..", "..", "hub", "socketio", "clients")
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		t.Skip("skipped: no node_modules in hub/socketio/clients; run npm ci there (or make deps)")
	}
	p := startDemo(t, nil)
	other := p.newPhone("other").connect("room=room:tea")
	for _, pkg := range []string{"weapp.socket.io-2", "weapp.socket.io"} {
		cmd := exec.Command(node, "remote.cjs", fmt.Sprintf(`{"package":%q,"url":"%s?room=notice&userId=1","options":{},"events":["res","purchase"]}`, pkg, p.hub))
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_, _ = io.WriteString(in, `{"emit":"exchange","args":[{"payload":{"title":"this is a news"},"target":"res"}],"timer":200}`+"\n")
		heard, id := 0, ""
		for lines := bufio.NewScanner(out); heard < 3 && lines.Scan(); {
			var l struct {
				Event, ID string
				Args      []struct {
					Meta struct {
						Timestamp            int64
						Client, Target, Room string
					}
					Data struct {
						Action  string
						Payload struct{ Title string }
					}
				}
			}
			switch _ = json.Unmarshal(lines.Bytes(), &l); l.Event {
			case "connect":
				id = l.ID
			case "res":
				heard++
				if a := l.Args[0]; a.Meta.Client != id || a.Meta.Target != "res" || a.Meta.Room != "notice" || a.Meta.Timestamp == 0 ||
					a.Data.Action != "exchange" || a.Data.Payload.Title != "this is a news" {
					t.Errorf("%s heard %s", pkg, lines.Text())
				}
			}
		}
		stop.Stop()
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		if heard < 3 {
			t.Fatalf("%s heard %d of 3", pkg, heard)
		}
	}
	p.broadcast("room:tea", "mark")
	for _, f := range other.until("mark") {
		if f.Data.Action == "exchange" {
			t.Errorf("somebody in another room heard %+v", f)
		}
	}
	if !strings.Contains(p.output(), "without a token") {
		t.Error("the demo does not say that it takes a userId for the user")
	}
}

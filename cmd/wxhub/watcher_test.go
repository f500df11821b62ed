package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// A watcher is a phone that does what the SDK does: it keeps its position in each room, comes back with it when the
// line is lost, drops what it had before, fetches what lies between, acknowledges mail, and asks again for a room that
// could not be had. It keeps a log of what the page was handed.
type watcher struct {
	user, token string
	door        *balancer
	done        chan struct{} // closed when it has stopped

	mu     sync.Mutex // guards what follows
	ws     *websocket.Conn
	stop   bool
	up     bool // welcomed
	frozen chan struct{}
	rooms  map[string]*place
	again  *time.Timer // asks for the rooms that it is not in
	lastID int
	opened int         // handshakes that succeeded
	cameAt time.Time   // of the last of them
	closes map[int]int // by code; 0: none came
	failed int         // handshakes that did not succeed
	silent int         // lines given up because nothing was heard
	faults []string    // what the hub must never do
}

// A place is what a watcher knows of a room.
type place struct {
	name   string
	own    bool // asked for by the watcher; else the hub puts everybody in it
	epoch  string
	offset uint64
	seen   map[string]bool
	recent []string // of seen, oldest first
	in     bool
	gapAt  uint64 // offset at which a gap was seen before

	heard  []string // ids handed to the page, in order
	resets []int    // lengths of heard at which a loss was announced
	again  int      // pushes dropped because they had been heard
}

const rememberedIDs = 512

func newWatcher(door *balancer, user, token string, rooms ...string) *watcher {
	w := &watcher{user: user, token: token, door: door, done: make(chan struct{}), rooms: make(map[string]*place), closes: make(map[int]int)}
	for _, name := range append(rooms, "user:"+user) {
		w.rooms[name] = &place{name: name, own: true, seen: make(map[string]bool)}
	}
	w.rooms["all"] = &place{name: "all", seen: make(map[string]bool)}
	go w.run()
	return w
}

// run keeps a line until it is told to stop.
func (w *watcher) run() {
	defer close(w.done)
	for attempt := 0; ; attempt++ {
		began := time.Now()
		retry := w.line()
		w.mu.Lock()
		stop := w.stop
		w.ws, w.up = nil, false
		if w.again != nil {
			w.again.Stop()
		}
		for _, p := range w.rooms {
			p.in = false
		}
		w.mu.Unlock()
		if stop {
			return
		}
		if time.Since(began) > 5*time.Second {
			attempt = 0
		}
		if retry < 0 {
			retry = rand.N(min(5*time.Second, 200*time.Millisecond<<min(attempt, 10))) // full jitter
		}
		time.Sleep(retry)
	}
}

var watcherBuffers sync.Pool // of gorilla's writers

// line is one connection, from its handshake to its end. It tells when to come back; -1: nobody said.
func (w *watcher) line() (retry time.Duration) {
	addr := w.door.pick()
	w.mu.Lock()
	query := url.Values{}
	for _, p := range w.rooms {
		switch mail := strings.HasPrefix(p.name, "user:"); {
		case p.own && p.epoch != "":
			query.Add("room", fmt.Sprintf("%s@%s:%d", p.name, p.epoch, p.offset))
		case p.own && !mail:
			query.Add("room", p.name)
		}
	}
	w.mu.Unlock()
	dialer := websocket.Dialer{HandshakeTimeout: 10 * time.Second, ReadBufferSize: 1 << 10, WriteBufferSize: 512, WriteBufferPool: &watcherBuffers}
	ws, resp, err := dialer.Dial("ws://"+addr+"/ws?"+query.Encode(), http.Header{"Authorization": {"Bearer " + w.token}})
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	w.mu.Lock()
	stop := w.stop
	if err != nil {
		w.failed++
		w.door.refused(addr, "socket", fmt.Errorf("%w %v", err, status(resp)))
	} else {
		w.ws = ws
		w.opened++
		w.cameAt = time.Now()
	}
	w.mu.Unlock()
	if err != nil {
		return -1
	}
	defer ws.Close()
	if stop {
		return -1
	}
	heartbeat := 25 * time.Second
	for {
		_ = ws.SetReadDeadline(time.Now().Add(2 * heartbeat))
		_, text, err := ws.ReadMessage()
		w.mu.Lock()
		frozen := w.frozen
		w.mu.Unlock()
		if frozen != nil {
			<-frozen
		}
		if err != nil {
			return w.lost(err)
		}
		var f watchedFrame
		if err := json.Unmarshal(text, &f); err != nil {
			w.fault("a frame that is no JSON: %.80q", text)
			return -1
		}
		switch {
		case f.Ping != nil:
			w.send(`{"pong":%s}`, f.Ping)
		case f.Data.Action == "welcome" && f.Meta.Room == "":
			var welcome struct {
				Heartbeat float64
				Rooms     []standing
			}
			_ = json.Unmarshal(f.Data.Payload, &welcome)
			heartbeat = time.Duration(welcome.Heartbeat * float64(time.Second))
			w.mu.Lock()
			for _, s := range welcome.Rooms {
				w.admitLocked(s)
			}
			w.up = true
			w.again = time.AfterFunc(100*time.Millisecond, w.knock)
			w.mu.Unlock()
		case f.Reply != nil:
			w.answered(&f)
		case !w.take(&f):
			return 0 // a gap: the next line brings the position
		}
	}
}

type standing struct {
	Room, Epoch string
	Offset      uint64
	Recovered   *bool
}

type watchedFrame struct {
	Meta struct {
		Room, Epoch, ID string
		Offset          uint64
	}
	Data struct {
		Action  string
		Payload json.RawMessage
	}
	Reply json.RawMessage
	OK    bool
	Error string
	standing
	Ping json.RawMessage
}

func status(resp *http.Response) string {
	if resp == nil {
		return ""
	}
	return resp.Status
}

func (w *watcher) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, w.user+": "+fmt.Sprintf(format, args...))
}

func (w *watcher) send(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sendLocked(fmt.Sprintf(format, args...))
}

func (w *watcher) sendLocked(text string) {
	if w.ws != nil {
		_ = w.ws.SetWriteDeadline(time.Now().Add(5 * time.Second))
		_ = w.ws.WriteMessage(websocket.TextMessage, []byte(text)) // a line that cannot send is about to end
	}
}

// lost notes how a line ended and tells when to come back.
func (w *watcher) lost(err error) (retry time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) {
		w.closes[0]++
		if strings.Contains(err.Error(), "timeout") {
			w.silent++
		}
		return -1
	}
	w.closes[closed.Code]++
	if closed.Code >= 4500 {
		w.faults = append(w.faults, fmt.Sprintf("%s: told to stay away: %d %s", w.user, closed.Code, closed.Text))
		w.stop = true
	}
	if _, text, ok := strings.Cut(closed.Text, ";retry="); ok {
		if ms, err := strconv.Atoi(text); err == nil {
			return time.Duration(ms) * time.Millisecond
		}
	}
	return -1
}

// knock asks for rooms that the handshake did not lead to, now and again.
func (w *watcher) knock() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.up || w.ws == nil {
		return
	}
	for _, p := range w.rooms {
		if !p.in && p.own {
			w.lastID++
			since := ""
			if p.epoch != "" {
				since = fmt.Sprintf(`,"since":{"epoch":%q,"offset":%d}`, p.epoch, p.offset)
			}
			w.sendLocked(fmt.Sprintf(`{"id":%d,"action":"join","room":%q%s}`, w.lastID, p.name, since))
		}
	}
	w.again.Reset(time.Second + rand.N(time.Second))
}

func (w *watcher) answered(f *watchedFrame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case f.OK && f.Room != "" && f.Epoch != "":
		w.admitLocked(f.standing)
	case !f.OK && f.Error != "unavailable":
		w.faults = append(w.faults, fmt.Sprintf("%s: refused: %s", w.user, f.Error))
	}
}

// admitLocked takes what the hub says about our place in a room.
func (w *watcher) admitLocked(s standing) {
	p := w.rooms[s.Room]
	if p == nil || p.in && s.Recovered == nil {
		return
	}
	p.in = true
	if p.epoch != "" {
		if s.Recovered != nil && *s.Recovered {
			return // the position moves as the missed messages arrive
		}
		p.resets = append(p.resets, len(p.heard)) // in everybody's room too: nobody brings a position there
	}
	p.epoch, p.offset = s.Epoch, s.Offset
	if strings.HasPrefix(p.name, "user:") {
		p.epoch, p.offset = "", 0 // what is not acknowledged follows
	}
}

// take judges a push as the SDK does; false after a gap.
func (w *watcher) take(f *watchedFrame) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.rooms[f.Meta.Room]
	if p == nil || f.Meta.Offset == 0 {
		return true
	}
	fresh := p.epoch != "" && p.epoch != f.Meta.Epoch
	if fresh {
		p.resets = append(p.resets, len(p.heard))
	}
	if p.epoch != "" && !fresh {
		if f.Meta.Offset <= p.offset {
			p.again++
			return true
		}
		if f.Meta.Offset > p.offset+1 {
			if p.gapAt != p.offset {
				p.gapAt = p.offset
				return false
			}
			p.resets = append(p.resets, len(p.heard))
		}
	}
	p.epoch, p.offset = f.Meta.Epoch, f.Meta.Offset
	if strings.HasPrefix(p.name, "user:") {
		w.lastID++
		w.sendLocked(fmt.Sprintf(`{"id":%d,"action":"ack","room":%q,"offset":%d}`, w.lastID, p.name, p.offset))
	}
	if p.seen[f.Meta.ID] {
		p.again++
		return true
	}
	p.seen[f.Meta.ID] = true
	if p.recent = append(p.recent, f.Meta.ID); len(p.recent) > rememberedIDs {
		delete(p.seen, p.recent[0])
		p.recent = p.recent[1:]
	}
	p.heard = append(p.heard, f.Meta.ID)
	return true
}

// ready tells whether it is in all its rooms.
func (w *watcher) ready() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.up {
		return false
	}
	for _, p := range w.rooms {
		if !p.in {
			return false
		}
	}
	return true
}

// has tells whether the page was handed the message, or told that messages are lost after it.
func (w *watcher) has(room, id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.rooms[room].heard[max(0, len(w.rooms[room].heard)-rememberedIDs):], id)
}

// freeze has it read nothing, as an app that the system suspends, until thaw.
func (w *watcher) freeze() (thaw func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	frozen := make(chan struct{})
	w.frozen = frozen
	return func() {
		w.mu.Lock()
		w.frozen = nil
		w.mu.Unlock()
		close(frozen)
	}
}

// cut ends its line without a word.
func (w *watcher) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ws != nil {
		_ = w.ws.NetConn().Close()
	}
}

func (w *watcher) close() {
	w.mu.Lock()
	w.stop = true
	if w.ws != nil {
		_ = w.ws.Close()
	}
	w.mu.Unlock()
}

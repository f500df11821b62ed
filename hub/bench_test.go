package hub

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var benchPayload = []byte(`{"buyer":"王**","product":"spring tea set, 2 boxes","quantity":1,"pad":"` + strings.Repeat("x", 150) + `"}`)

// One push, encoded once for all who hear it in the same language.
func BenchmarkEncode(b *testing.B) {
	m := Message{ID: "m-1", Action: "purchase", Payload: benchPayload, At: time.Now(), Offset: 13}
	for _, e := range []struct {
		name string
		encoding
	}{{"native", encodeNative}, {"compressed", encodeNative + formats}, {"socketio3", encodeSocketIO3}, {"socketio4", encodeSocketIO4}} {
		b.Run(e.name, func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = e.appendPush(buf[:0], "notice", "9f86d081884c7d65", &m)
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}

func BenchmarkParseRequest(b *testing.B) {
	frame := []byte(`{"id":12,"action":"publish","room":"room:tea","data":{"action":"chat","payload":{"text":"hello"}}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, no := parseRequest(frame); no != nil {
			b.Fatal(no)
		}
	}
}

func BenchmarkPublish_withHistory(b *testing.B) {
	h := newTestHub(b, Options{})
	m := Message{Action: "purchase", Payload: benchPayload, At: time.Now()}
	b.ReportAllocs()
	for b.Loop() { // notice keeps 1000
		if _, err := h.Publish(context.Background(), "notice", m); err != nil {
			b.Fatal(err)
		}
	}
}

// One message to 10,000 sockets, the hub alone: over /dev/null by the non-blocking write, one system call a socket; in
// memory by the queue, one flusher a socket. A batch of 32 is what a busy room makes.
func BenchmarkFanout_10k(b *testing.B) {
	const n = 10_000
	for _, path := range []string{"devnull", "memory"} {
		for _, batch := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/batch%d", path, batch), func(b *testing.B) {
				h := newTestHub(b, Options{Mail: noMail{}, Limits: Limits{QueueFrames: 1 << 20, QueueBytes: 1 << 28}})
				ends := newSinks(h, nil)
				if path == "devnull" {
					ends.device = devNull(b)
				}
				ends.openMany(b, n, "notice")
				r := h.room("notice")
				b.ReportAllocs()
				for b.Loop() {
					want := h.delivered.Load() + uint64(n*batch)
					r.mu.Lock() // all of them wait, as if the last batch were still going out
					for range batch {
						r.sayLocked("epoch", Message{Action: "purchase", Payload: benchPayload, At: time.Now()}, false)
					}
					r.mu.Unlock()
					for h.delivered.Load() < want {
						time.Sleep(20 * time.Microsecond)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n*batch), "ns/delivery")
				h.eachConn(func(c *Conn) { c.waitFlusher() })
			})
		}
	}
}

// Deliveries over loopback to readers that only count: b.N is messages. The path is the non-blocking write.
func BenchmarkFanout(b *testing.B) {
	for _, n := range []int{1000, 5000} { // two descriptors a reader in this one process
		for _, window := range []int{1, 32} {
			b.Run(fmt.Sprintf("%d/window%d", n, window), func(b *testing.B) { benchFanout(b, n, window) })
		}
	}
}

func benchFanout(b *testing.B, n, window int) {
	h := newTestHub(b, Options{Limits: Limits{QueueFrames: 1 << 20, QueueBytes: 1 << 28}})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = h.Accept(w, r, session(r)) }))
	b.Cleanup(srv.Close)
	var received atomic.Int64
	var readers sync.WaitGroup
	for i := range n {
		nc, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Skipf("skipped: %v", err)
		}
		b.Cleanup(func() { _ = nc.Close() })
		_, _ = fmt.Fprintf(nc, "GET /ws?user=u%d&room=notice HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", i)
		readers.Go(func() {
			buf := make([]byte, 16<<10)
			for {
				k, err := nc.Read(buf)
				if err != nil {
					return
				}
				received.Add(int64(k))
			}
		})
	}
	eventually(b, "all joined", func() bool {
		r := h.room("notice")
		return r != nil && r.count() == n
	})
	m := Message{ID: "", Action: "purchase", Payload: benchPayload, At: time.Now()}
	before := h.Stats()
	b.ResetTimer()
	for i := range b.N {
		if _, err := h.Publish(context.Background(), "notice", m); err != nil {
			b.Fatal(err)
		}
		for h.delivered.Load()-before.Delivered < uint64((i+1-window)*n) && i >= window {
			time.Sleep(20 * time.Microsecond)
		}
	}
	for h.delivered.Load()-before.Delivered < uint64(b.N*n) {
		time.Sleep(20 * time.Microsecond)
	}
	b.StopTimer()
	after := h.Stats()
	deliveries := float64(b.N * n)
	b.ReportMetric(deliveries/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(after.Written-before.Written)/deliveries, "writes/delivery")
}

// Somebody comes to a room of 200 that tells who is there, and goes again.
func BenchmarkPresence_churn(b *testing.B) {
	h := newTestHub(b, Options{Mail: noMail{}})
	ends := newSinks(h, devNull(b))
	ends.openMany(b, 200, "room:tea")
	c := openSink(b, ends, "ada")
	join, leave := []byte(`{"id":1,"action":"join","room":"room:tea"}`), []byte(`{"id":2,"action":"leave","room":"room:tea"}`)
	b.ReportAllocs()
	for b.Loop() {
		c.handle(true, join, false)
		c.handle(true, leave, false)
	}
}

// openSink opens one more socket and returns it.
func openSink(b *testing.B, ends *sinks, user string) *Conn {
	if err := ends.open(user); err != nil {
		b.Fatal(err)
	}
	return ends.h.connsOf(user)[0]
}

// A socket that missed 100 messages joins and gets them, in one write.
func BenchmarkJoin_Recover100(b *testing.B) {
	h := newTestHub(b, Options{Mail: noMail{}})
	var at Position
	for range 200 {
		at = publish(b, h, "notice", Message{Action: "purchase", Payload: benchPayload})
	}
	c := openSink(b, newSinks(h, devNull(b)), "ada")
	join := fmt.Appendf(nil, `{"id":1,"action":"join","room":"notice","since":{"epoch":%q,"offset":%d}}`, at.Epoch, at.Offset-100)
	b.ReportAllocs()
	for b.Loop() {
		c.handle(true, join, false)
		c.forget(c.member("notice"))
	}
	if got := h.Stats(); got.NotRecovered > 0 || got.Recovered == 0 {
		b.Fatalf("%+v", got)
	}
}

// One socket opens by the real upgrade, joins all, its mail and notice, and stays.
func BenchmarkOpen(b *testing.B) {
	h := newTestHub(b, Options{Mail: noMail{}})
	ends := newSinks(h, devNull(b))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := ends.open(fmt.Sprintf("u%07d", i), "notice"); err != nil {
			b.Fatal(err)
		}
	}
}

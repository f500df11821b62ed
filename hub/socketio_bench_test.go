package hub

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tongues are the clients that a room may have; the last has heard of another room, too.
var tongues = []string{"native", "socketio3", "socketio4", "socketio4rooms"}

// dialTongue opens a socket in the room notice that reads nothing yet.
func dialTongue(b *testing.B, addr, tongue string, i int) net.Conn {
	nc, err := net.Dial("tcp", strings.TrimPrefix(addr, "ws://"))
	if err != nil {
		b.Skipf("skipped: %v", err)
	}
	b.Cleanup(func() { _ = nc.Close() })
	path := "/ws?"
	if version, ok := strings.CutPrefix(tongue, "socketio"); ok {
		path = "/socket.io/?EIO=" + version[:1] + "&transport=websocket&"
	}
	_, _ = fmt.Fprintf(nc, "GET %suser=u%d&room=notice HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, i)
	if strings.HasPrefix(tongue, "socketio4") {
		buf := make([]byte, 4096)
		for got := []byte(nil); !bytes.Contains(got, []byte(`"maxPayload"`)); {
			n, err := nc.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			got = append(got, buf[:n]...)
		}
		_, _ = nc.Write([]byte{0x81, 0x82, 0, 0, 0, 0, '4', '0'})
	}
	return nc
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTongues compares what a delivery costs in each protocol, hub and readers in one process: the median of rounds. Each round says the
// same number of messages in rooms of each protocol, one room after the other, so that the machine's moods hit all alike.
func BenchmarkTongues(b *testing.B) {
	for _, window := range []int{1, 32} {
		b.Run(fmt.Sprintf("window%d", window), func(b *testing.B) {
			const n = 1000
			type room struct {
				h    *Hub
				cpu  []float64 // ns a delivery, round by round
				took []float64
			}
			rooms := make([]*room, len(tongues))
			for t, tongue := range tongues {
				h := newTestHub(b, Options{Heartbeat: time.Hour, Limits: Limits{QueueFrames: 1 << 20, QueueBytes: 1 << 28}})
				addr := both(b, h)
				rooms[t] = &room{h: h}
				for i := range n {
					nc := dialTongue(b, addr, tongue, i)
					go func() {
						buf := make([]byte, 16<<10)
						for {
							if _, err := nc.Read(buf); err != nil {
								return
							}
						}
					}()
				}
				eventually(b, "all joined", func() bool {
					r := h.room("notice")
					return r != nil && r.count() == n
				})
				if tongue == "socketio4rooms" {
					publish(b, h, "all", Message{Action: "purchase", Payload: benchPayload})
				}
			}
			m := Message{Action: "purchase", Payload: benchPayload, At: time.Now()}
			const burst = 64
			b.ResetTimer()
			for round := range b.N {
				for t := range rooms {
					r := rooms[(t+round)%len(rooms)]
					runtime.GC() // each pays for its own garbage
					before, cpu, start := r.h.delivered.Load(), cpuTime(), time.Now()
					for i := range burst {
						if _, err := r.h.Publish(context.Background(), "notice", m); err != nil {
							b.Fatal(err)
						}
						for i >= window && r.h.delivered.Load()-before < uint64((i+1-window)*n) {
							time.Sleep(20 * time.Microsecond)
						}
					}
					for r.h.delivered.Load()-before < burst*n {
						time.Sleep(20 * time.Microsecond)
					}
					r.took = append(r.took, float64(time.Since(start).Nanoseconds())/burst/n)
					r.cpu = append(r.cpu, float64((cpuTime()-cpu).Nanoseconds())/burst/n)
				}
			}
			b.StopTimer()
			for t, r := range rooms {
				slices.Sort(r.cpu)
				slices.Sort(r.took)
				b.ReportMetric(r.cpu[len(r.cpu)/2], tongues[t]+"-cpu-ns/delivery")
				b.ReportMetric(r.took[len(r.took)/2], tongues[t]+"-ns/delivery")
			}
		})
	}
}

// BenchmarkTonguesIdle prints what a silent socket in the room notice costs in Go's heap and stacks, the dialling end
// included.
func BenchmarkTonguesIdle(b *testing.B) {
	const n = 3000
	for _, tongue := range tongues {
		b.Run(tongue, func(b *testing.B) {
			h := newTestHub(b, Options{Heartbeat: time.Hour})
			addr := both(b, h)
			used := func() uint64 {
				for range 6 {
					runtime.GC()
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc + m.StackInuse
			}
			for i := range 100 { // pools and maps have their size
				dialTongue(b, addr, tongue, n+i)
			}
			wait := func(want int) {
				eventually(b, "all joined", func() bool {
					r := h.room("notice")
					return r != nil && r.count() == want
				})
			}
			wait(100)
			before := used()
			for i := range n {
				dialTongue(b, addr, tongue, i)
			}
			wait(n + 100)
			time.Sleep(100 * time.Millisecond)
			publish(b, h, "notice", Message{Action: "purchase", Payload: benchPayload})
			time.Sleep(500 * time.Millisecond)
			each := float64(used()-before) / n
			for b.Loop() {
			}
			b.ReportMetric(each, "B/socket")
		})
	}
}

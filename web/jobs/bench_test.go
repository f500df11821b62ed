package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"wxhub/hub"
	"wxhub/store"
)

// startPostgres runs a PostgreSQL of the test's own, as durable as one in production, and returns its URL.
func startPostgres(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		t.Skip("skipped: no PostgreSQL on this machine (make deps installs it)")
	}
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "wxhub-pg-") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	attr := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip("skipped: root may not run PostgreSQL, and there is no user postgres")
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	data := filepath.Join(dir, "data")
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, attr
		return cmd
	}
	if out, err := command("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	server := command("postgres", "-D", data, "-k", dir, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=128MB")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt) // it disconnects everybody and ends
		_ = server.Wait()
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		url := fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", address)
		db, err := store.Open(t.Context(), store.Options{URL: url, Keys: []store.Key{{ID: "k", Secret: make([]byte, 32)}}})
		if err == nil {
			_ = db.Close()
			return url
		}
		if time.Now().After(end) {
			t.Fatalf("PostgreSQL does not answer: %v", err)
		}
	}
}

// BenchmarkRelay measures what an outbox row costs: to commit it (by 64 callers, each waiting for its commit), and to
// claim, announce and settle it. The stages alone add up to the relay's whole where one worker does them one after the
// other; whole/s is the relay as it runs, with its workers side by side.
func BenchmarkRelay(b *testing.B) {
	for _, kind := range []string{"sqlite", "postgres"} {
		b.Run(kind, func(b *testing.B) {
			url := filepath.Join(b.TempDir(), "wxhub.db")
			if kind == "postgres" {
				url = startPostgres(b)
			}
			for _, what := range []string{"mail", "one room", "many rooms"} {
				b.Run(what, func(b *testing.B) { benchRelay(b, url, what) })
			}
		})
	}
}

const benchRows = 10_000

var benchRound int

func benchRelay(b *testing.B, url, what string) {
	db, err := store.Open(b.Context(), store.Options{URL: url, Keys: []store.Key{{ID: "k", Secret: make([]byte, 32)}}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	h, err := hub.New(hub.Options{Mail: shopMail{db}})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Shutdown(context.Background())
	var committed, claimed, announced, settled, whole time.Duration
	for b.Loop() {
		committed += commitRows(b, db, what)
		c, a, s := relayByHand(b, db, h)
		claimed, announced, settled = claimed+c, announced+a, settled+s
		commitRows(b, db, what)
		begin := time.Now()
		relay := New(Options{Hub: h, Store: db})
		stop := run(relay)
		for end := begin.Add(5 * time.Minute); ; time.Sleep(time.Millisecond) {
			stats := relay.Stats()
			if stats[store.TellMail].Relayed+stats[store.TellRoom].Relayed >= benchRows {
				break
			}
			if time.Now().After(end) {
				b.Fatalf("relayed %+v", stats)
			}
		}
		whole += time.Since(begin)
		stop()
	}
	rows := float64(b.N * benchRows)
	b.ReportMetric(rows/committed.Seconds(), "committed/s")
	b.ReportMetric(rows/whole.Seconds(), "whole/s")
	for name, d := range map[string]time.Duration{"commit": committed, "claim": claimed, "announce": announced, "settle": settled} {
		b.ReportMetric(float64(d.Microseconds())/rows, name+"-µs/row")
	}
	b.ReportMetric(0, "ns/op")
}

// run runs a relay until it is stopped.
func run(j *Jobs) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = j.Run(ctx) })
	return func() { cancel(); all.Wait() }
}

// commitRows commits one row at a time, as payments and pushes do.
func commitRows(b *testing.B, db *store.DB, what string) time.Duration {
	benchRound++
	round := benchRound
	body := json.RawMessage(`{"outTradeNo":"20260301120000","total":12800,"description":"新茶 250 克","at":1700000000000,"refunded":0}`)
	begin := time.Now()
	var all sync.WaitGroup
	const callers = 64
	for w := range callers {
		all.Go(func() {
			for i := w; i < benchRows; i += callers {
				id := fmt.Sprintf("r%d-%d", round, i)
				var err error
				switch what {
				case "mail":
					_, err = db.AddMail(b.Context(), []string{fmt.Sprint("user", i%2000)}, store.Letter{ID: id, Action: "order.paid", Payload: body})
				default:
					room := "notice"
					if what == "many rooms" {
						room = fmt.Sprint("shop:", i%2000) // without a rate, as notice is
					}
					_, _, err = db.RecordPush(b.Context(), store.Push{Key: id, AppID: "wx", Tell: func(store.Conversation, store.User) []store.Telling {
						return []store.Telling{{Kind: store.TellRoom, To: room, ID: id, Action: "purchase", Payload: body}}
					}})
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(begin)
}

// relayByHand does what the relay does, one thing after the other.
func relayByHand(b *testing.B, db *store.DB, h *hub.Hub) (claimed, announced, settled time.Duration) {
	for done := 0; done < benchRows; {
		at := time.Now()
		rows, err := db.ClaimOutbox(b.Context(), "bench", everyKind, batch, lease)
		if err != nil {
			b.Fatal(err)
		}
		claimed += time.Since(at)
		at = time.Now()
		var seqs []int64
		var rung []store.Rung
		for _, r := range rows {
			if r.Kind == store.TellMail {
				h.Ring("user:" + r.To)
				rung = append(rung, store.Rung{Seq: r.Seq, User: r.To, ID: r.ID})
				continue
			}
			if _, err := h.Publish(b.Context(), r.To, hub.Message{ID: r.ID, Action: r.Action, Payload: r.Payload, At: r.CreatedAt}); err != nil {
				b.Fatal(err)
			}
			seqs = append(seqs, r.Seq)
		}
		announced += time.Since(at)
		at = time.Now()
		if err := db.SettleOutbox(b.Context(), "bench", seqs); err != nil {
			b.Fatal(err)
		}
		if err := db.SettleMail(b.Context(), "bench", rung); err != nil {
			b.Fatal(err)
		}
		settled += time.Since(at)
		done += len(rows)
	}
	return claimed, announced, settled
}

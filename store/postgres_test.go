package store

import (
	"cmp"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A postgresServer is a real PostgreSQL that the tests start on a socket in a folder of their own.
type postgresServer struct {
	dir  string
	cmd  *exec.Cmd
	skip string // why there is none
	dbs  atomic.Int64
}

var thePostgres postgresServer
var startPostgres = sync.OnceValue(func() error { return thePostgres.start() })

func (p *postgresServer) start() error {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		p.skip = "no PostgreSQL"
		return nil
	}
	bin := filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(len(a), len(b)) + cmp.Compare(a, b) }))
	// PostgreSQL refuses to run as root.
	attr := &syscall.SysProcAttr{}
	var err error
	if p.dir, err = os.MkdirTemp("", "wxhub-postgres-"); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			p.skip = "no user postgres"
			return nil
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(p.dir, uid, gid); err != nil {
			return err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = p.dir, attr
		return cmd
	}
	data := filepath.Join(p.dir, "data")
	if out, err := run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	// The tests kill no PostgreSQL, so it need not wait for the disk.
	p.cmd = run("postgres", "-D", data, "-k", p.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB")
	if err := p.cmd.Start(); err != nil {
		return err
	}
	db, err := sql.Open("pgx", p.url("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err := db.Ping(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func (p *postgresServer) url(name string) string {
	return fmt.Sprintf("postgres://postgres@/%s?host=%s", name, p.dir)
}

// stopPostgres ends the server, if a test started one.
func stopPostgres() {
	if thePostgres.cmd != nil && thePostgres.cmd.Process != nil {
		thePostgres.cmd.Process.Signal(os.Interrupt) // it disconnects everybody and ends
		thePostgres.cmd.Wait()
	}
	if thePostgres.dir != "" {
		os.RemoveAll(thePostgres.dir)
	}
}

// newPostgres makes an empty database and returns its URL.
func newPostgres(t testing.TB) string {
	t.Helper()
	check(t, startPostgres())
	if thePostgres.skip != "" {
		t.Skip("skipped: " + thePostgres.skip + " on this machine (apt-get install postgresql)")
	}
	db, err := sql.Open("pgx", thePostgres.url("postgres"))
	check(t, err)
	defer db.Close()
	name := fmt.Sprint("test", thePostgres.dbs.Add(1))
	_, err = db.ExecContext(t.Context(), "CREATE DATABASE "+name)
	check(t, err)
	return thePostgres.url(name)
}

func openTestPostgres(t testing.TB, c *clock) *DB {
	return openTest(t, Options{URL: newPostgres(t), Now: c.now})
}

// Several nodes start at once on an empty database: one migrates, all open, and all have one mail epoch.
func TestPostgres_openAtOnce(t *testing.T) {
	url := newPostgres(t)
	nodes := make([]*DB, 4)
	for _, err := range each(len(nodes), func(i int) (err error) {
		nodes[i], err = Open(t.Context(), Options{URL: url, Keys: testKeys})
		return err
	}) {
		check(t, err)
	}
	for _, n := range nodes {
		if n.epoch != nodes[0].epoch {
			t.Error("two epochs in one database")
		}
		check(t, n.Close())
	}
}

// Two nodes relay one outbox: no row twice while its lease holds, each room in order.
func TestPostgres_twoNodesClaim(t *testing.T) {
	url := newPostgres(t)
	nodes := []*DB{openTest(t, Options{URL: url}), openTest(t, Options{URL: url})}
	const rooms, perRoom = 5, 40
	for i := range perRoom {
		for r := range rooms {
			say(t, nodes[i%2], t.Context(), fmt.Sprintf("room%d:%d", r, i))
		}
	}
	var mu sync.Mutex
	got := make(map[string][]int64)
	for _, err := range each(6, func(me int) error {
		db, owner := nodes[me%2], fmt.Sprint("relay", me)
		for {
			rows, err := db.ClaimOutbox(t.Context(), owner, everyKind, 7, time.Minute)
			if err != nil {
				return err
			}
			if s, err := db.OutboxStats(t.Context()); err != nil || s.Waiting == 0 {
				return err
			}
			var seqs []int64
			mu.Lock()
			for _, r := range rows {
				got[r.To] = append(got[r.To], r.Seq)
				seqs = append(seqs, r.Seq)
			}
			mu.Unlock()
			if err := db.SettleOutbox(t.Context(), owner, seqs); err != nil {
				return err
			}
		}
	}) {
		check(t, err)
	}
	for r := range rooms {
		seqs := got[fmt.Sprint("room", r)]
		if len(seqs) != perRoom || !slices.IsSorted(seqs) || len(slices.Compact(seqs)) != perRoom {
			t.Errorf("room%d: %d rows: %v", r, len(seqs), seqs)
		}
	}
}

// What one node commits wakes the others at once.
func TestPostgres_wakesOtherNodes(t *testing.T) {
	url, c := newPostgres(t), newClock()
	open := func() *DB { return openTest(t, Options{URL: url, Now: c.now}) }
	one, two := open(), open()
	woken := func(db *DB, within time.Duration) bool {
		select {
		case <-db.Wake():
			return true
		case <-time.After(within):
			return false
		}
	}
	for end := time.Now().Add(20 * time.Second); !woken(two, 100*time.Millisecond); { // until it listens
		must(one.AddMail(t.Context(), []string{"alice"}, Letter{ID: newID(), Action: "hello"}))(t)
		if time.Now().After(end) {
			t.Fatal("the other node was never woken")
		}
	}
	for woken(two, 300*time.Millisecond) {
	}
	for i := range 3 {
		must(one.AddMail(t.Context(), []string{"alice"}, Letter{ID: fmt.Sprint("l", i), Action: "hello"}))(t)
		if !woken(two, 20*time.Second) {
			t.Fatal("the other node was not woken")
		}
	}
	for woken(one, 200*time.Millisecond) { // its own commits woke it already
	}
	check(t, one.Ping(t.Context()))
	if woken(two, 300*time.Millisecond) {
		t.Error("woken without work")
	}
}

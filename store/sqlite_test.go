package store

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSQLite_openTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxhub.db")
	db := openTest(t, Options{URL: path})
	link := filepath.Join(t.TempDir(), "other-name.db")
	check(t, os.Symlink(path, link))
	for _, name := range []string{path, link} {
		_, err := Open(t.Context(), Options{URL: name, Keys: testKeys})
		wantErr(t, err, ErrInUse)
		for _, part := range []string{strconv.Itoa(os.Getpid()), "another data folder"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error %q without %q", err, part)
			}
		}
	}
	check(t, db.Ping(t.Context())) // the refused ones harmed nothing
	check(t, db.Close())
	again := openTest(t, Options{URL: path})
	if again.epoch != db.epoch {
		t.Error("the epoch changed with a restart")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestSQLite_openAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxhub.db")
	var mu sync.Mutex
	var opened []*DB
	for _, err := range each(8, func(int) error {
		db, err := Open(t.Context(), Options{URL: path, Keys: testKeys})
		if err == nil {
			mu.Lock()
			opened = append(opened, db)
			mu.Unlock()
		} else if errors.Is(err, ErrInUse) {
			err = nil
		}
		return err
	}) {
		check(t, err)
	}
	if len(opened) != 1 {
		t.Errorf("%d processes have the file", len(opened))
	}
	for _, db := range opened {
		check(t, db.Ping(t.Context()))
		check(t, db.Close())
	}
}

// Every commit waits for the disk, and only the writer writes.
func TestSQLite_synchronous(t *testing.T) {
	db := openTest(t, Options{URL: filepath.Join(t.TempDir(), "wxhub.db")})
	check(t, db.engine.write(t.Context(), func(t *tx) error {
		var synchronous int
		var mode string
		if err := t.row([]any{&synchronous}, "PRAGMA synchronous"); err != nil {
			return err
		}
		if err := t.row([]any{&mode}, "PRAGMA journal_mode"); err != nil {
			return err
		}
		if synchronous != 2 || mode != "wal" {
			return fmt.Errorf("synchronous %d, journal mode %s", synchronous, mode)
		}
		return nil
	}))
	if err := db.engine.read(t.Context(), false, func(t *tx) error {
		_, err := t.exec("DELETE FROM meta")
		return err
	}); err == nil {
		t.Error("a reader can write")
	}
}

func TestSQLite_oddPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%20é", "wx hub.db")
	openTest(t, Options{URL: path})
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// Leases of a process that is dead end at once.
func TestSQLite_restartReleasesLeases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxhub.db")
	db, err := Open(t.Context(), Options{URL: path, Keys: testKeys})
	check(t, err)
	say(t, db, t.Context(), "a:1", "a:2")
	rows := must(db.ClaimOutbox(t.Context(), "node", everyKind, 1, time.Hour))(t)
	must(db.Lease(t.Context(), "refresh", "node", time.Hour))(t)
	check(t, db.DeferOutbox(t.Context(), "node", rows[0].Seq, time.Now().Add(time.Hour), "later"))
	say(t, db, t.Context(), "b:1")
	must(db.ClaimOutbox(t.Context(), "node", everyKind, 1, time.Hour))(t)
	check(t, db.Close())
	db = openTest(t, Options{URL: path})
	rows = must(db.ClaimOutbox(t.Context(), "other", everyKind, 9, time.Hour))(t)
	if len(rows) != 1 || rows[0].To != "b" || rows[0].Attempts != 2 { // a:1 is deferred, not leased
		t.Errorf("rows %+v", rows)
	}
	if !must(db.Lease(t.Context(), "refresh", "other", time.Hour))(t) {
		t.Error("the lease of the dead process holds")
	}
}

// A caller's function that ends its goroutine (t.Fatal in a test) ends the writer: an error for the others, no hanging.
func TestSQLite_writerEnds(t *testing.T) {
	db := openTest(t, Options{URL: filepath.Join(t.TempDir(), "wxhub.db")})
	must(db.CreateOrder(t.Context(), testOrder("goexit-1")))(t)
	_, err := db.MarkPaid(t.Context(), testPayment("goexit-1", "t1"), func(Order, User) []Telling {
		runtime.Goexit()
		return nil
	})
	wantErr(t, err, ErrClosed)
	_, err = db.MarkPaid(t.Context(), testPayment("goexit-1", "t1"), nil)
	wantErr(t, err, ErrClosed)
	if o := must(db.Order(t.Context(), "goexit-1"))(t); o.State != OrderCreated {
		t.Errorf("state %s", o.State)
	}
}

// Somebody else's lock (a backup tool): callers leave in time, and nothing of theirs happens later.
func TestSQLite_lockedByOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxhub.db")
	db := openTest(t, Options{URL: path})
	other, err := openSQLiteRaw(path)
	check(t, err)
	defer other.Close()
	conn, err := other.Conn(t.Context())
	check(t, err)
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	errs := each(5, func(i int) error {
		_, err := db.AddMail(ctx, []string{"alice"}, Letter{ID: fmt.Sprint("l", i), Action: "x"})
		return err
	})
	for _, err := range errs {
		wantErr(t, err, context.DeadlineExceeded)
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("callers waited %v", d)
	}
	must(db.MailHeads(t.Context(), []string{"alice"}))(t) // readers go on
	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	check(t, err)
	conn.Close()
	seqs := must(db.AddMail(t.Context(), []string{"alice"}, Letter{ID: "later", Action: "x"}))(t)
	if seqs[0] != 1 {
		t.Errorf("seq %d: a letter of a caller who had left was stored", seqs[0])
	}
}

// A full disk: an error, nothing half done, and all is well when there is room again.
func TestSQLite_diskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxhub.db")
	db := openTest(t, Options{URL: path})
	limit := func(pages int) {
		check(t, db.engine.write(t.Context(), func(t *tx) error {
			var got int
			return t.row([]any{&got}, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		}))
	}
	pages := count(t, db, "PRAGMA page_count")
	limit(pages + 20)
	payload := []byte(`"` + strings.Repeat("x", 20_000) + `"`)
	stored, refused := 0, 0
	for _, err := range each(40, func(i int) error {
		_, err := db.AddMail(t.Context(), []string{"alice"}, Letter{ID: fmt.Sprint("l", i), Action: "x", Payload: payload})
		return err
	}) {
		if err == nil {
			stored++
		} else if refused++; !strings.Contains(err.Error(), "full") {
			t.Errorf("error %v", err)
		}
	}
	if refused == 0 {
		t.Error("the disk never was full")
	}
	limit(1 << 30)
	seqs := must(db.AddMail(t.Context(), []string{"alice"}, Letter{ID: "later", Action: "x", Payload: payload}))(t)
	if p := must(db.ReadMail(t.Context(), "alice", 0, 100, false))(t); int(seqs[0]) != stored+1 || len(p.Letters) != stored+1 {
		t.Errorf("%d stored, then seq %d and %d letters", stored, seqs[0], len(p.Letters))
	}
	var ok string
	check(t, db.engine.read(t.Context(), false, func(t *tx) error { return t.row([]any{&ok}, "PRAGMA integrity_check") }))
	if ok != "ok" {
		t.Errorf("integrity: %s", ok)
	}
}

// The power goes while a commit is being written: whole commits stay, the torn one never was.
func TestSQLite_tornWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxhub.db")
	db := openTest(t, Options{URL: path})
	const letters = 20
	var ends [letters + 1]int64 // of the log after each commit
	for i := 1; i <= letters; i++ {
		must(db.AddMail(t.Context(), []string{"alice"}, Letter{ID: fmt.Sprint("l", i), Action: "x"}))(t)
		info, err := os.Stat(path + "-wal")
		check(t, err)
		ends[i] = info.Size()
	}
	main, err := os.ReadFile(path)
	check(t, err)
	wal, err := os.ReadFile(path + "-wal")
	check(t, err)
	for n := 1; n <= letters; n++ {
		for name, tail := range map[string][]byte{
			"clean":   nil,
			"torn":    wal[ends[n-1]:ends[n]][:(ends[n]-ends[n-1])/2],
			"garbage": []byte(strings.Repeat("?", 5000)),
			"zeros":   make([]byte, 9000),
		} {
			copied := filepath.Join(t.TempDir(), "wxhub.db")
			check(t, os.WriteFile(copied, main, 0o600))
			check(t, os.WriteFile(copied+"-wal", append(wal[:ends[n]:ends[n]], tail...), 0o600))
			db, err := Open(t.Context(), Options{URL: copied, Keys: testKeys})
			check(t, err)
			p := must(db.ReadMail(t.Context(), "alice", 0, 100, false))(t)
			if len(p.Letters) != n || p.Head != uint64(n) {
				t.Errorf("%s after %d commits: %d letters, head %d", name, n, len(p.Letters), p.Head)
			}
			check(t, db.Close())
		}
	}
}

const writerEnv = "WXHUB_STORE_TEST_WRITER" // the database that this test binary fills until it is killed

// writeUntilKilled prints each order that was acknowledged as paid.
func writeUntilKilled(path string) {
	ctx := context.Background()
	db, err := Open(ctx, Options{URL: path, Keys: testKeys})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	run := newID()[:8]
	var mu sync.Mutex // a line is one write
	for _, err := range each(8, func(worker int) error {
		for i := 0; ; i++ {
			no := fmt.Sprintf("%s-%d-%d", run, worker, i)
			if _, err := db.CreateOrder(ctx, testOrder(no)); err != nil {
				return err
			}
			if _, err := db.MarkPaid(ctx, testPayment(no, "t-"+no), purchase); err != nil {
				return err
			}
			mu.Lock()
			fmt.Println(no)
			mu.Unlock()
		}
	}) {
		fmt.Println("error", err)
	}
	os.Exit(1)
}

// Kill -9 at random moments: what was acknowledged is there, whole, after each restart.
func TestSQLite_killed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxhub.db")
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	var acknowledged []string
	for range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerEnv+"="+path)
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		kill := func() { cmd.Process.Kill() }
		lines := bufio.NewReader(out)
		for n := 0; ; n++ {
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				break
			}
			if strings.HasPrefix(line, "error") {
				t.Fatal(line)
			}
			acknowledged = append(acknowledged, strings.TrimSpace(line))
			if n == 0 {
				time.AfterFunc(time.Duration(random.IntN(300_000))*time.Microsecond, kill)
			}
		}
		cmd.Wait()
		db, err := Open(t.Context(), Options{URL: path, Keys: testKeys}) // at once: the kernel gave the lock back
		check(t, err)
		for _, no := range acknowledged {
			if o, err := db.Order(t.Context(), no); err != nil || o.State != OrderPaid {
				t.Errorf("seed %d: acknowledged order %s: %s, %v", seed, no, o.State, err)
			}
		}
		paid := count(t, db, "SELECT COUNT(*) FROM orders WHERE state = 'paid'")
		for query, want := range map[string]int{
			"SELECT COUNT(*) FROM payments":                                           paid,
			"SELECT (SELECT COUNT(*) FROM letters) + (SELECT COUNT(*) FROM receipts)": paid, // a mailbox keeps the newest
			"SELECT COUNT(*) FROM outbox WHERE kind = 'room'":                         paid,
			"SELECT COUNT(*) FROM outbox WHERE kind = 'mail'":                         paid,
			"SELECT head FROM mailboxes WHERE user_id = 'alice'":                      paid,
		} {
			if n := count(t, db, query); n != want {
				t.Errorf("seed %d: %s: %d, want %d", seed, query, n, want)
			}
		}
		var ok string
		check(t, db.engine.read(t.Context(), false, func(t *tx) error { return t.row([]any{&ok}, "PRAGMA integrity_check") }))
		if ok != "ok" {
			t.Errorf("integrity: %s", ok)
		}
		check(t, db.Close())
	}
	t.Logf("%d orders acknowledged", len(acknowledged))
}

// openSQLiteRaw opens the file as another program would.
func openSQLiteRaw(path string) (*sql.DB, error) { return sql.Open("sqlite", path) }

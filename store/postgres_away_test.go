package store

import (
	"database/sql"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Ten nodes start at once on an empty database, and on one that a newer version has migrated: one migrates, all open.
func TestPostgres_tenNodesAtOnce(t *testing.T) {
	url := newPostgres(t)
	start := func() {
		t.Helper()
		nodes := make([]*DB, 10)
		for _, err := range each(len(nodes), func(i int) (err error) {
			nodes[i], err = Open(t.Context(), Options{URL: url, Conns: 2, Keys: testKeys})
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
	start()
	raw, err := sql.Open("pgx", url)
	check(t, err)
	defer raw.Close()
	_, err = raw.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (90000, true)")
	check(t, err)
	start()
}

// A database that is read-only, full of others' connections, silent or gone is away; a question that is wrong is not.
func TestPostgres_away(t *testing.T) {
	url := newPostgres(t)
	_, name, _ := strings.Cut(url, "@/")
	name, _, _ = strings.Cut(name, "?")
	line := newHoleProxy(t, thePostgres.dir+"/.s.PGSQL.5432")
	db := openTest(t, Options{URL: "postgres://postgres@" + line.l.Addr().String() + "/" + name + "?sslmode=disable", Conns: 2})
	change := func() error {
		return db.PutNode(t.Context(), Node{ID: "n1"})
	}
	check(t, change())

	raw, err := sql.Open("pgx", url)
	check(t, err)
	defer raw.Close()
	alter := func(query string) {
		t.Helper()
		_, err := raw.ExecContext(t.Context(), query)
		check(t, err)
		_, err = raw.ExecContext(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		check(t, err)
	}
	alter("ALTER DATABASE " + name + " SET default_transaction_read_only = on")
	eventuallyAway := func(what string) {
		t.Helper()
		var err error
		for range 5 { // connections that were cut are noticed one by one
			if err = change(); !errors.Is(err, ErrAway) {
				t.Errorf("%s: %v", what, err)
			}
		}
		t.Logf("%s: %v", what, err)
	}
	eventuallyAway("read-only")
	_, err = raw.ExecContext(t.Context(), "SET default_transaction_read_only = off; ALTER DATABASE "+name+" RESET default_transaction_read_only")
	if err != nil { // the connection's own default is off already when it is older
		t.Log(err)
	}
	alter("SELECT 1")
	again := func() {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); change() != nil; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the database does not come back")
			}
		}
	}
	again()

	if _, err := db.Lease(t.Context(), "", "me", time.Second); errors.Is(err, ErrAway) || err == nil {
		t.Errorf("a wrong question: %v", err)
	}
	line.hole(true)
	began := time.Now()
	var waiting sync.WaitGroup
	for range 10 { // more than there are connections
		waiting.Go(func() {
			if err := change(); !errors.Is(err, ErrAway) {
				t.Errorf("silent: %v", err)
			}
		})
	}
	waiting.Wait()
	if took := time.Since(began); took > postgresPatience+2*time.Second {
		t.Errorf("waited %s for a silent database", took)
	}
	line.hole(false)
	again()
	line.close()
	eventuallyAway("gone")
}

// A holeProxy leads to a socket and can let nothing pass.
type holeProxy struct {
	l  net.Listener
	mu sync.Mutex
	on bool
	is chan struct{} // closed while things pass
	cs []net.Conn
}

func newHoleProxy(t *testing.T, socket string) *holeProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p := &holeProxy{l: l, is: make(chan struct{})}
	close(p.is)
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", socket)
			if err != nil {
				near.Close()
				continue
			}
			p.mu.Lock()
			p.cs = append(p.cs, near, far)
			p.mu.Unlock()
			go p.carry(near, far)
			go p.carry(far, near)
		}
	}()
	t.Cleanup(p.close)
	return p
}

func (p *holeProxy) carry(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 8<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		is := p.is
		p.mu.Unlock()
		<-is
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				from.Close()
			}
			return
		}
	}
}

func (p *holeProxy) hole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on && !p.on {
		p.is = make(chan struct{})
	}
	if !on && p.on {
		close(p.is)
	}
	p.on = on
}

func (p *holeProxy) close() {
	p.hole(false)
	p.l.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.cs {
		c.Close()
	}
}

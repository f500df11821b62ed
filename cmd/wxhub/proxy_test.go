package main

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A faultProxy stands on a TCP path and breaks it on purpose: it delays, throttles, swallows, resets and half-closes.
// What it holds back it hands over, in order, once it is healed, as a network does that was cut for a while.
type faultProxy struct {
	l  net.Listener
	to string
	wg sync.WaitGroup

	mu    sync.Mutex
	fault fault
	eased chan struct{} // closed when the fault changes
	links map[*link]struct{}
}

// A fault is what happens to each direction of each link, those that are opened meanwhile too.
type fault struct {
	hole  bool          // nothing passes
	delay time.Duration // of each piece
	rate  int           // bytes a second; 0: no bound
}

type link struct{ near, far *net.TCPConn }

func startFaultProxy(t testing.TB, to string) *faultProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &faultProxy{l: l, to: to, eased: make(chan struct{}), links: make(map[*link]struct{})}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.heal()
		p.reset()
		p.wg.Wait()
	})
	return p
}

func (p *faultProxy) addr() string { return p.l.Addr().String() }

func (p *faultProxy) accept() {
	for {
		near, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(near.(*net.TCPConn)) })
	}
}

func (p *faultProxy) serve(near *net.TCPConn) {
	defer near.Close()
	far, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer far.Close()
	l := &link{near, far.(*net.TCPConn)}
	p.mu.Lock()
	p.links[l] = struct{}{}
	p.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { p.carry(l.near, l.far) })
	p.carry(l.far, l.near)
	back.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// carry copies until from ends, then ends to's hearing.
func (p *faultProxy) carry(to, from *net.TCPConn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.suffer(n)
			if _, werr := to.Write(buf[:n]); werr != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			p.suffer(0)
			_ = to.CloseWrite()
			return
		}
	}
}

// suffer takes as long as the fault holds n bytes back.
func (p *faultProxy) suffer(n int) {
	for {
		p.mu.Lock()
		f, eased := p.fault, p.eased
		p.mu.Unlock()
		if f.hole {
			<-eased
			continue
		}
		wait := f.delay
		if f.rate > 0 {
			wait += time.Duration(n) * time.Second / time.Duration(f.rate)
		}
		if wait > 0 {
			t := time.NewTimer(wait)
			defer t.Stop()
			select {
			case <-t.C:
			case <-eased:
			}
		}
		return
	}
}

func (p *faultProxy) set(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	close(p.eased)
	p.eased = make(chan struct{})
}

func (p *faultProxy) heal() { p.set(fault{}) }

func (p *faultProxy) each(f func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		f(l)
	}
}

// reset ends the links with a RST to both sides.
func (p *faultProxy) reset() {
	p.each(func(l *link) {
		for _, c := range []*net.TCPConn{l.near, l.far} {
			_ = c.SetLinger(0)
			_ = c.Close()
		}
	})
}

// halfClose tells who dialled that nothing more comes, and goes on taking what it says.
func (p *faultProxy) halfClose() { p.each(func(l *link) { _ = l.near.CloseWrite() }) }

//go:build unix

package hub

import (
	"net"
	"sync"
	"syscall"
)

// rawConn returns the descriptor behind c, or nil where there is none to write to directly.
func rawConn(c net.Conn) syscall.RawConn {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// An attempt is one non-blocking write; it is reused so that a write allocates nothing.
type attempt struct {
	buf  []byte
	n    int
	err  error
	call func(fd uintptr) bool
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.call = a.write
	return a
}}

func (a *attempt) write(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), a.buf)
		if err == syscall.EINTR {
			continue
		}
		a.n, a.err = max(n, 0), err
		return true // never wait for the descriptor
	}
}

// tryWrite writes what the kernel takes at once. The caller holds c.mu and no flusher runs.
func (c *Conn) tryWrite(buf []byte) (n int, err error) {
	a := attempts.Get().(*attempt)
	a.buf, a.n, a.err = buf, 0, nil
	err = c.raw.Write(a.call)
	n = a.n
	if err == nil && a.err != nil && a.err != syscall.EAGAIN {
		err = a.err
	}
	a.buf = nil
	attempts.Put(a)
	c.hub.written.Add(1)
	return n, err
}

// await returns when the socket has something to read or is broken, in a frame so shallow that an idle
// socket's stack stays small.
func (c *Conn) await() {
	if c.raw == nil {
		return
	}
	_ = c.raw.Read(readable)
}

func readable(fd uintptr) bool {
	var one [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		if err == syscall.EINTR {
			continue
		}
		return err != syscall.EAGAIN
	}
}

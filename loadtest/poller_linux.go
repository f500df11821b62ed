package main

import (
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const hasDescriptors = true

// A poller waits for many descriptors at once (epoll). All but wake is called on its loop.
type poller struct {
	epoll, event int
	wires        map[int32]*descriptor
	events       []unix.EpollEvent
}

func newPoller() (*poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	event, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, err
	}
	p := &poller{epoll: epoll, event: event, wires: map[int32]*descriptor{}, events: make([]unix.EpollEvent, 512)}
	if err := p.control(unix.EPOLL_CTL_ADD, event, unix.EPOLLIN); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) control(op, fd int, events uint32) error {
	return unix.EpollCtl(p.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}) //nolint:gosec // a descriptor
}

func (p *poller) wake() { _, _ = unix.Write(p.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) } // full: it is awake anyway

func (p *poller) close() {
	_ = unix.Close(p.event)
	_ = unix.Close(p.epoll)
}

// wait serves descriptors until something has happened, at most for d.
func (p *poller) wait(l *loop, d time.Duration) {
	n, err := unix.EpollWait(p.epoll, p.events, int((d+time.Millisecond-1)/time.Millisecond))
	if err != nil && !errors.Is(err, unix.EINTR) {
		panic("epoll_wait: " + err.Error()) // the loop's own descriptor is broken: a fault of this program
	}
	for _, e := range p.events[:max(n, 0)] {
		if int(e.Fd) == p.event {
			var trash [8]byte
			_, _ = unix.Read(p.event, trash[:])
			continue
		}
		if w := p.wires[e.Fd]; w != nil {
			w.serve(l, e.Events)
		}
	}
}

// A descriptor is the wire of a line on a non-blocking socket.
type descriptor struct {
	poller  *poller
	line    *line
	fd      int
	request []byte // until connected
	events  uint32
	quiet   bool
}

func (p *poller) connect(n *line, d dialing) (wire, error) {
	family := unix.AF_INET
	ip4 := d.address.IP.To4()
	if ip4 == nil {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	w := &descriptor{poller: p, line: n, fd: fd, request: d.request, events: unix.EPOLLIN | unix.EPOLLOUT}
	fail := func(err error) (wire, error) {
		_ = unix.Close(fd)
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // a wish
	if d.receive > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, d.receive) // a wish
	}
	if source := d.source.To4(); source != nil && ip4 != nil {
		// The port is chosen at connect, so that one address serves many targets.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte(source)}); err != nil {
			return fail(err)
		}
	}
	if err := unix.Connect(fd, sockaddr(d.address)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fail(err)
	}
	if err := p.control(unix.EPOLL_CTL_ADD, fd, w.events); err != nil {
		return fail(err)
	}
	p.wires[int32(fd)] = w //nolint:gosec // a descriptor
	return w, nil
}

func sockaddr(a *net.TCPAddr) unix.Sockaddr {
	if ip := a.IP.To4(); ip != nil {
		return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}
	}
	return &unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())}
}

func (w *descriptor) serve(l *loop, events uint32) {
	if w.request != nil {
		code, err := unix.GetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err != nil {
			w.line.finish(&ending{err: err})
			return
		}
		if events&unix.EPOLLOUT == 0 {
			return
		}
		request := w.request
		w.request = nil
		w.line.send(request)
	}
	if events&unix.EPOLLOUT != 0 && !w.line.over {
		w.want(unix.EPOLLOUT, false)
		w.line.writable()
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) == 0 || w.line.over || w.quiet {
		return
	}
	n, err := unix.Read(w.fd, l.buffer)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
	case err != nil:
		w.line.finish(&ending{err: err})
	case n == 0:
		w.line.finish(&ending{err: io.ErrUnexpectedEOF})
	default:
		w.line.received(l.buffer[:n]) // level-triggered: what is left rings again
	}
}

// want adds or takes away an event that is waited for.
func (w *descriptor) want(event uint32, wanted bool) {
	events := w.events &^ event
	if wanted {
		events |= event
	}
	if events != w.events && w.poller.control(unix.EPOLL_CTL_MOD, w.fd, events) == nil {
		w.events = events
	}
}

func (w *descriptor) write(b []byte) (int, error) {
	if w.request != nil {
		w.want(unix.EPOLLOUT, true)
		return 0, nil
	}
	n, err := unix.Write(w.fd, b)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		n, err = 0, nil
	}
	if err == nil && n < len(b) {
		w.want(unix.EPOLLOUT, true)
	}
	return max(n, 0), err
}

func (w *descriptor) pause(quiet bool) {
	w.quiet = quiet
	w.want(unix.EPOLLIN, !quiet)
}

func (w *descriptor) close() {
	delete(w.poller.wires, int32(w.fd)) //nolint:gosec // a descriptor
	_ = unix.Close(w.fd)                // leaves epoll with it
}

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// A client is told what happens on its line. The calls come on the line's loop and must not block; ended is the last.
type client interface {
	opened()
	heard(text []byte, at time.Time) // one message; text is valid during the call
	ended(why ending)
}

// A dialing says where a line goes.
type dialing struct {
	address *net.TCPAddr
	source  net.IP      // nil: the system chooses
	tls     *tls.Config // nil: none
	request []byte      // the handshake
	patient time.Duration
	receive int // bytes of the receive buffer; 0: the system's
}

// A line is one connection of a client to the hub. Its methods are called on its loop only.
type line struct {
	loop   *loop
	client client
	parser parser
	wire   wire   // nil until connected, and after the end
	unsent []byte // what the kernel did not take yet
	timer  *timer // until opened: patience; after a goodbye: politeness
	bye    bool   // we said goodbye
	over   bool
}

// A wire carries bytes: a descriptor in the poller, or a net.Conn with goroutines of its own.
type wire interface {
	write(b []byte) (int, error) // never blocks; what it does not take is offered again after writable
	pause(quiet bool)            // stop reading, or go on
	close()                      // without a word
}

var errPatience = errors.New("no answer in time")

const politeness = 2 * time.Second // for the hub to answer our close frame

// dial begins to connect and returns at once. Called on the loop.
func (l *loop) dial(d dialing, c client) *line {
	n := &line{loop: l, client: c}
	l.lines[n] = struct{}{}
	n.timer = l.later(d.patient, func() { n.finish(&ending{err: errPatience}) })
	var err error
	if d.tls == nil && hasDescriptors {
		n.wire, err = l.poller.connect(n, d)
	} else {
		n.wire = newStream(n, d)
	}
	if err != nil {
		err = fmt.Errorf("dial: %w", err)
		l.post(func() { n.finish(&ending{err: err}) })
	}
	return n
}

// say sends one text message.
func (n *line) say(text string) {
	if !n.bye {
		n.send(clientFrame(opText, []byte(text)))
	}
}

// hangUp says goodbye and ends the line when the hub has answered.
func (n *line) hangUp() {
	if n.over || n.bye {
		return
	}
	if !n.parser.open {
		n.finish(&ending{})
		return
	}
	n.send(clientFrame(opClose, closePayload(1000, "")))
	n.bye = true
	n.loop.stop(n.timer)
	n.timer = n.loop.later(politeness, func() { n.finish(&ending{}) })
}

// cut breaks the line without a word, as a phone in a tunnel does.
func (n *line) cut() { n.finish(&ending{}) }

// pause stops reading, as a page that hangs does, or goes on.
func (n *line) pause(quiet bool) {
	if n.wire != nil {
		n.wire.pause(quiet)
	}
}

func (n *line) send(b []byte) {
	if n.over || n.wire == nil {
		return
	}
	if len(n.unsent) > 0 {
		n.unsent = append(n.unsent, b...)
		return
	}
	took, err := n.wire.write(b)
	if err != nil {
		n.finish(&ending{err: err})
		return
	}
	if took < len(b) {
		n.unsent = append(n.unsent, b[took:]...)
	}
}

// writable is called when the wire takes bytes again.
func (n *line) writable() {
	b := n.unsent
	n.unsent = nil
	if len(b) > 0 {
		n.send(b)
	}
}

// received is called with the next bytes.
func (n *line) received(b []byte) {
	if n.over {
		return
	}
	at := time.Now()
	end := n.parser.feed(b, func() {
		n.loop.stop(n.timer)
		n.timer = nil
		n.client.opened()
	}, func(op byte, payload []byte) {
		switch {
		case n.over:
		case op == opPing:
			n.send(clientFrame(opPong, payload))
		case op != opPong && !n.bye:
			n.client.heard(payload, at)
		}
	})
	if end != nil {
		if end.code != 0 && !n.bye {
			n.send(clientFrame(opClose, closePayload(1000, "")))
		}
		if n.bye {
			end = &ending{}
		}
		n.finish(end)
	}
}

// finish ends the line; why nil: nobody is told.
func (n *line) finish(why *ending) {
	if n.over {
		return
	}
	n.over = true
	n.loop.stop(n.timer)
	delete(n.loop.lines, n)
	if n.wire != nil {
		n.wire.close()
	}
	n.unsent, n.parser = nil, parser{}
	if why != nil {
		n.client.ended(*why)
	}
}

package hub

import (
	"bytes"
	"errors"
	"net"
	"os"
	"time"
)

// The door: everything that leaves a socket, control frames too, goes through here. A write is first
// tried without blocking; what the kernel refuses waits in the queue, and a flusher exists only while
// something waits there. A connection without a descriptor (TLS, a pipe) always takes the queue.

const flushBytes = 64 << 10 // what one write of the flusher holds at most: the measure of its progress

// send hands whole frames over. It never blocks; a socket that is being closed swallows them.
func (c *Conn) send(frames int, buf []byte) {
	c.mu.Lock()
	c.sendLocked(piece{buf: buf, frames: frames})
	c.mu.Unlock()
}

func (c *Conn) sendLocked(p piece) {
	if !c.closing {
		c.pushLocked(p)
	}
}

func (c *Conn) pushLocked(p piece) {
	if c.dead {
		return
	}
	c.sent.Store(c.hub.wheel.now.Load())
	sent := 0
	if c.raw != nil && !c.flushing && !c.corked && len(c.queue.pieces) == 0 {
		n, err := c.tryWrite(p.buf)
		if err != nil {
			c.failLocked()
			return
		}
		if n == len(p.buf) {
			return
		}
		sent = n
	}
	if p.lent {
		p.buf, p.lent = bytes.Clone(p.buf), false
	}
	c.queue.add(p)
	if sent > 0 {
		c.queue.off = sent
	}
	if l := &c.hub.limits; !c.closing && (c.queue.bytes > l.QueueBytes || c.queue.frames > l.QueueFrames) {
		c.hub.dropped.Add(1)
		c.closeLocked(DisconnectSlow)
		return
	}
	c.flushLocked()
}

// cork lets frames wait until uncork, which writes them together.
func (c *Conn) cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

func (c *Conn) uncork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	q := &c.queue
	if len(q.pieces) == 0 || c.dead || c.flushing {
		return
	}
	if size := q.bytes + q.replay; c.raw != nil && size <= flushBytes && q.off == 0 {
		s := scratch.Get().(*[]byte)
		defer scratch.Put(s)
		*s = (*s)[:0]
		for _, p := range q.pieces {
			*s = append(*s, p.buf...)
		}
		head := q.pieces[0].head
		c.queue = queue{}
		n, err := c.tryWrite(*s)
		switch {
		case err != nil:
			c.failLocked()
			return
		case n == len(*s):
			c.paidLocked()
			return
		}
		c.queue.add(piece{buf: bytes.Clone(*s), head: head, replay: true})
		c.queue.off = n
	}
	c.flushLocked()
}

// flushLocked starts the flusher if there is something for it to do.
func (c *Conn) flushLocked() {
	if c.flushing || c.corked || c.dead || len(c.queue.pieces) == 0 {
		return
	}
	c.flushing = true
	c.hub.tasks.Add(1)
	go c.flush()
}

// flush writes what waits until nothing waits, then ends.
func (c *Conn) flush() {
	defer c.hub.tasks.Done()
	for {
		c.mu.Lock()
		var bufs net.Buffers
		if !c.dead {
			bufs = c.queue.take(flushBytes)
		}
		if len(bufs) == 0 {
			c.flushing = false
			_ = c.net.SetWriteDeadline(time.Time{}) // it would outlive the flusher
			c.paidLocked()
			if c.drained != nil {
				close(c.drained)
				c.drained = nil
			}
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		err := c.writeAll(bufs)
		if err == nil {
			continue
		}
		c.mu.Lock()
		if errors.Is(err, os.ErrDeadlineExceeded) && !c.closing {
			c.hub.dropped.Add(1)
			c.closeLocked(DisconnectSlow)
		}
		c.failLocked()
		c.mu.Unlock()
	}
}

// writeAll writes bufs. It gives up when the peer took nothing at all for WriteWait, or when the time
// to say goodbye is over.
func (c *Conn) writeAll(bufs net.Buffers) error {
	for {
		by := time.Now().Add(c.hub.limits.WriteWait)
		c.mu.Lock()
		if !c.closeBy.IsZero() && c.closeBy.Before(by) {
			by = c.closeBy
		}
		_ = c.net.SetWriteDeadline(by)
		c.mu.Unlock()
		n, err := bufs.WriteTo(c.net)
		c.hub.written.Add(1)
		if err == nil {
			return nil
		}
		if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) || c.isClosing() {
			return err
		}
	}
}

// failLocked gives the connection up: nothing can be written any more. The reader wakes and ends.
func (c *Conn) failLocked() {
	c.dead = true
	c.queue = queue{}
	_ = c.net.SetDeadline(time.Unix(1, 0))
}

// waitDrained returns when nothing waits for this socket, false if it is being closed.
func (c *Conn) waitDrained() bool {
	c.waitFlusher()
	return !c.isClosing()
}

// waitFlusher returns when no flusher runs. It takes as long as the peer takes to read what waits, and no
// longer than WriteWait once the peer reads nothing or the socket is being closed.
func (c *Conn) waitFlusher() {
	c.mu.Lock()
	if !c.flushing {
		c.mu.Unlock()
		return
	}
	if c.drained == nil {
		c.drained = make(chan struct{})
	}
	drained := c.drained
	c.mu.Unlock()
	<-drained
}

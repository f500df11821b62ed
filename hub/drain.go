package hub

import (
	"context"
	"time"
)

const (
	spreadShare = 0.7                    // of the time left: the rest is for goodbyes and stragglers
	returnFrom  = 500 * time.Millisecond // a client told to come back does so between these
	returnTo    = 5 * time.Second
)

// enterSocket counts a new socket's reader in; false when no new socket is taken.
func (h *Hub) enterSocket() bool {
	h.life.RLock()
	defer h.life.RUnlock()
	if h.full {
		return false
	}
	h.conns.Add(1)
	return true
}

// Shutdown refuses new sockets, closes the open ones with DisconnectRestart spread over the time that ctx
// leaves (all at once if ctx has no deadline), each with a random hint when to return, and waits for all of
// them. When ctx ends first it cuts what is left and returns ctx's error. A second call waits for the first.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.life.Lock()
	first := !h.full
	h.full = true
	h.life.Unlock()
	if !first {
		select {
		case <-h.wheel.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h.sayGoodbye(ctx)
	gone := make(chan struct{})
	go func() {
		h.conns.Wait()
		close(gone)
	}()
	var err error
	select {
	case <-gone:
	case <-ctx.Done():
		err = ctx.Err()
		h.eachConn(func(c *Conn) { c.cut() })
		h.guests.each(func(c *Conn) { c.cut() })
	}
	h.life.Lock()
	h.over = true
	h.life.Unlock()
	h.cancel()
	<-gone
	h.tasks.Wait()
	h.lastWords()
	if h.roll != nil {
		h.roll.leave()
	}
	h.wheel.close()
	if h.ownBroker {
		_ = h.broker.Close()
	}
	return err
}

// sayGoodbye closes the sockets one by one, evenly over the time.
func (h *Hub) sayGoodbye(ctx context.Context) {
	var list []*Conn
	h.eachConn(func(c *Conn) { list = append(list, c) })
	h.guests.each(func(c *Conn) { list = append(list, c) })
	var pause time.Duration
	if deadline, ok := ctx.Deadline(); ok && len(list) > 0 {
		pause = time.Duration(float64(time.Until(deadline)) * spreadShare / float64(len(list)))
	}
	start := time.Now()
	for i, c := range list {
		c.close(DisconnectRestart.after(returnFrom, returnTo))
		// Sleep only when ahead of the plan by something that a timer can measure.
		if ahead := time.Duration(i+1)*pause - time.Since(start); ahead > time.Millisecond && i < len(list)-1 {
			t := time.NewTimer(ahead)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
			}
		}
	}
}

// cut ends the socket without waiting for anything.
func (c *Conn) cut() {
	c.mu.Lock()
	c.closeLocked(DisconnectRestart)
	c.failLocked()
	c.mu.Unlock()
}

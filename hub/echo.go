package hub

import "net/http"

// AcceptEcho upgrades r to a WebSocket that gets back every message, text and binary, through the same read and
// write path as any other socket, with the hub's limits, and compressed where the client offered it. It joins no
// room. It is for conformance suites; anybody may connect. After an error the answer has been written.
func (h *Hub) AcceptEcho(w http.ResponseWriter, r *http.Request) error {
	c, err := h.upgrade(w, r, Session{User: "echo", ID: newClientID()}, echo{})
	if err != nil {
		return err
	}
	h.register(c)
	c.greet(c.uncork)
	c.open()
	return nil
}

// echo is the protocol of a socket that hears itself.
type echo struct{}

func (echo) welcome(*Conn, []*joining) []byte { return nil }
func (echo) goodbye(d Disconnect) []byte      { return closeFrame(d) }
func (echo) encoding() encoding               { return encodeNative }

func (echo) handle(c *Conn, text bool, data []byte, _ bool) {
	first := byte(finBinary)
	if text {
		first = finText
	}
	if c.speaks >= formats && len(data) > 0 {
		c.send(1, appendDeflated(nil, first, data))
		return
	}
	c.send(1, append(appendHeader(make([]byte, 0, len(data)+10), first, len(data)), data...))
}

// beat asks a silent line whether it lives.
func (echo) beat(c *Conn, now int64) (out []byte, next int64) {
	beat, heard := int64(c.hub.heartbeat), c.heard.Load()
	switch {
	case now-heard >= 2*beat:
		c.close(DisconnectSilent)
		return nil, 0
	case now-heard >= beat:
		out = []byte{finPing, 0}
	}
	return out, now + beat
}

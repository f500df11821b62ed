package hub

import "net"

// A piece is a run of whole frames laid end to end. Its bytes may be shared by many sockets and are
// never changed.
type piece struct {
	buf    []byte
	frames int
	lent   bool // buf is its sender's again when it is written or waits
	replay bool // history that the client asked for: bounded by its own limit, no sign of a slow reader
	head   int  // bytes before the first frame: the answer to the handshake, which is never cut
}

// A queue holds what the kernel did not take yet. The Conn's mutex guards it.
type queue struct {
	pieces []piece
	off    int // bytes of pieces[0] already written
	bytes  int // waiting, without replay
	frames int // waiting, without replay
	replay int // bytes of replay waiting
}

func (q *queue) add(p piece) {
	if q.pieces == nil {
		q.pieces = make([]piece, 0, 2) // an answer to the handshake and a welcome
	}
	q.pieces = append(q.pieces, p)
	if p.replay {
		q.replay += len(p.buf)
		return
	}
	q.bytes += len(p.buf)
	q.frames += p.frames
}

// take removes up to n bytes from the front, or more pieces than one but never none if something waits.
func (q *queue) take(n int) (bufs net.Buffers) {
	for len(q.pieces) > 0 && n > 0 {
		p := &q.pieces[0]
		rest := p.buf[q.off:]
		if len(rest) > n {
			q.off += n
			return append(bufs, rest[:n])
		}
		bufs = append(bufs, rest)
		n -= len(rest)
		q.drop()
	}
	if len(q.pieces) == 0 {
		q.pieces = nil // an idle socket holds no memory here
	}
	return bufs
}

// drop forgets the first piece.
func (q *queue) drop() {
	p := q.pieces[0]
	if p.replay {
		q.replay -= len(p.buf)
	} else {
		q.bytes -= len(p.buf)
		q.frames -= p.frames
	}
	q.pieces[0] = piece{}
	q.pieces, q.off = q.pieces[1:], 0
}

// truncate forgets everything but the answer to the handshake and the rest of a frame that the kernel
// has a part of.
func (q *queue) truncate() {
	var first piece
	off := q.off
	if len(q.pieces) > 0 {
		first = q.pieces[0]
	}
	end := first.head
	if off > end {
		end += frameEnd(first.buf[end:], off-end)
	}
	*q = queue{}
	if end > off {
		q.add(piece{buf: first.buf[:end], head: first.head})
		q.off = off
	}
}

package hub

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// A Disconnect is why a socket is closed. Below 4500 the client comes back, from 4500 it stays away.
type Disconnect struct {
	Code  int
	Word  string        // the reason's first part
	Retry time.Duration // when to come back; 0: the client's own choice
}

// The catalogue of close codes.
var (
	DisconnectRestart  = Disconnect{Code: 1012, Word: "restart"}       // this node stops: come back
	DisconnectFault    = Disconnect{Code: 1011, Word: "fault"}         // our fault
	DisconnectProtocol = Disconnect{Code: 1002, Word: "protocol"}      // the frames are no WebSocket, or no Socket.IO
	DisconnectUTF8     = Disconnect{Code: 1007, Word: "utf8"}          // a text frame that is not UTF-8
	DisconnectTooBig   = Disconnect{Code: 1009, Word: "too_big"}       // a frame larger than the limit
	DisconnectExpired  = Disconnect{Code: 4401, Word: "token_expired"} // get a new token first
	DisconnectSilent   = Disconnect{Code: 4408, Word: "silent"}        // nothing heard for too long
	DisconnectSlow     = Disconnect{Code: 4413, Word: "slow"}          // too slow a reader: come back and recover
	DisconnectTooMany  = Disconnect{Code: 4429, Word: "too_many"}      // too many frames or sockets
	DisconnectAbuse    = Disconnect{Code: 4500, Word: "abuse"}         // protocol abuse
	DisconnectToken    = Disconnect{Code: 4501, Word: "token_bad"}     // token bad or revoked
	DisconnectBlocked  = Disconnect{Code: 4503, Word: "blocked"}       // the user is blocked
	DisconnectKicked   = Disconnect{Code: 4503, Word: "kicked"}        // disconnected by an admin: nobody is barred
	DisconnectReplaced = Disconnect{Code: 4509, Word: "replaced"}      // a newer socket of the same user
)

// Reason is the close frame's text: "word" or "word;retry=MS".
func (d Disconnect) Reason() string {
	if d.Retry <= 0 {
		return d.Word
	}
	return d.Word + ";retry=" + strconv.FormatInt(d.Retry.Milliseconds(), 10)
}

// after asks the client to come back at a random moment between from and to, so that not all come at once.
func (d Disconnect) after(from, to time.Duration) Disconnect {
	d.Retry = from + rand.N(to-from)
	return d
}

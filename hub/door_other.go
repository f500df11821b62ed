//go:build !unix

package hub

import (
	"net"
	"syscall"
)

// Elsewhere every connection takes the queue path.
func rawConn(net.Conn) syscall.RawConn { return nil }

func (c *Conn) tryWrite([]byte) (int, error) { return 0, nil }

func (c *Conn) await() {}

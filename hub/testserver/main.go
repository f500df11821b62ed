// Command testserver sends every WebSocket message back, through the hub's own read and write path: for conformance
// suites. Messages may be large, compression is on, and nothing else limits the peer.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"wxhub/hub"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9001", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, *addr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testserver:", err)
		os.Exit(1)
	}
}

// serve echoes until ctx ends.
func serve(ctx context.Context, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	const far = 1 << 30
	h, err := hub.New(hub.Options{Compression: true, Limits: hub.Limits{
		FrameBytes: 64 << 20, InflatedBytes: 64 << 20, FramesPerSecond: far, FramesBurst: far, BadFrames: far,
		SocketsPerUser: far, QueueBytes: 256 << 20, QueueFrames: far, WriteWait: time.Minute,
	}})
	if err != nil {
		return err
	}
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = h.AcceptEcho(w, r) // what went wrong has been answered
	})}
	fmt.Println("echoing on ws://" + l.Addr().String())
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := srv.Serve(l); ctx.Err() == nil {
		return err
	}
	end, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return h.Shutdown(end)
}

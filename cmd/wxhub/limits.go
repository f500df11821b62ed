package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"wxhub/hub"
)

// hubLimits reads what protects the hub. A limit that is off is one that nobody reaches.
func (c *check) hubLimits() hub.Limits {
	l := hub.Limits{
		FrameBytes:     int64(c.size("LIMIT_FRAME", 256, 16<<20)),
		InflatedBytes:  int64(c.size("LIMIT_INFLATED", 256, 64<<20)),
		BadFrames:      c.count("LIMIT_BAD_FRAMES", 1, 1e6),
		RoomsPerSocket: c.count("LIMIT_ROOMS", 1, 1e5),
		WriteWait:      c.duration("LIMIT_WRITE_WAIT", 100*time.Millisecond, 5*time.Minute),
		ConnectWait:    c.duration("LIMIT_UNAUTHENTICATED", 500*time.Millisecond, time.Minute),
	}
	if r := c.rate("LIMIT_FRAMES"); r.Off {
		l.FramesPerSecond, l.FramesBurst = math.MaxInt32, math.MaxInt32
	} else {
		l.FramesPerSecond, l.FramesBurst = r.PerSecond, r.Burst
	}
	l.SocketsPerUser, l.UserFull = c.sockets("LIMIT_USER_SOCKETS")
	l.SocketsPerAddress, l.AddressFull = c.sockets("LIMIT_ADDRESS_SOCKETS")
	bytes, frames, both := strings.Cut(c.s.get("LIMIT_QUEUE"), ",")
	var err error
	if l.QueueBytes, err = parseSize(bytes, 4<<10, 1<<30); err == nil && both {
		l.QueueFrames, err = parseNumber(frames, 2, 1e6)
	}
	if err != nil || !both {
		c.fail("LIMIT_QUEUE", "%q is not a size and a number of messages like 1MiB,1000", c.s.get("LIMIT_QUEUE"))
	}
	if l.InflatedBytes < l.FrameBytes && len(c.errs) == 0 {
		c.fail("LIMIT_INFLATED", "is less than WXHUB_LIMIT_FRAME, which a frame may have without being compressed")
	}
	return l
}

// sockets reads a number with what happens to one too many: "8,close-oldest", "100,refuse-new", or "off".
func (c *check) sockets(name string) (int, hub.Full) {
	text := c.s.get(name)
	if text == "off" {
		return math.MaxInt, hub.CloseOldest
	}
	number, rule, both := strings.Cut(text, ",")
	n, err := parseNumber(number, 1, 1e9)
	full := hub.Full(strings.TrimSpace(rule))
	if err != nil || !both || full != hub.CloseOldest && full != hub.RefuseNew {
		c.fail(name, "%q is no limit: write 8,close-oldest or 8,refuse-new or off", text)
	}
	return n, full
}

func (c *check) size(name string, low, high int) int {
	n, err := parseSize(c.s.get(name), low, high)
	if err != nil {
		c.fail(name, "%v", err)
	}
	return n
}

func parseNumber(text string, low, high int) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q is not a number between %d and %d", text, low, high)
	}
	return n, nil
}

// parseSize reads bytes: "16384", "16KiB", "1MiB".
func parseSize(text string, low, high int) (int, error) {
	digits, unit := strings.TrimSpace(text), 1
	for suffix, n := range map[string]int{"KiB": 1 << 10, "MiB": 1 << 20} {
		if rest, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = strings.TrimSpace(rest), n
			break
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > high/unit || n*unit < low {
		return 0, fmt.Errorf("%q is not a size between %s and %s", text, showSize(low), showSize(high))
	}
	return n * unit, nil
}

func showSize(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.Itoa(n>>20) + "MiB"
	case n >= 1<<10 && n%(1<<10) == 0:
		return strconv.Itoa(n>>10) + "KiB"
	}
	return strconv.Itoa(n) + " bytes"
}

package web

import (
	"net/netip"
	"testing"
)

// An address by which sockets are counted: one subscriber has an IPv6 /64, and loopback is nobody.
func TestSubscriber(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"127.0.0.1": "invalid IP", "::1": "invalid IP", "::ffff:127.0.0.1": "invalid IP", "": "invalid IP",
	} {
		a, _ := netip.ParseAddr(address)
		if got := subscriber(a).String(); got != want {
			t.Errorf("%s is counted as %s, want %s", address, got, want)
		}
	}
}

package hub

import (
	"bytes"
	"compress/flate"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

var deflatingDialer = &websocket.Dialer{EnableCompression: true}

// A room of sockets that hear it compressed and such that do not: each hears the same, and the large message is
// smaller on the wire for those who asked for it.
func TestCompression_onePushForAll(t *testing.T) {
	h := newTestHub(t, Options{Compression: true})
	addr := listen(t, h)
	var all []*client
	for i, d := range []*websocket.Dialer{deflatingDialer, deflatingDialer, websocket.DefaultDialer} {
		c, err := tryDial(t, d, addr, fmt.Sprintf("user=u%d&room=room:a", i))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	text := `"` + strings.Repeat("茶 tea ", 500) + `"`
	for _, payload := range []string{text, `1`, text} {
		publish(t, h, "room:a", say("n", payload))
	}
	for _, c := range all {
		for _, payload := range []string{text, `1`, text} {
			if f := c.push(); string(f.Data.Payload) != payload {
				t.Fatalf("heard %.80s", f.raw)
			}
		}
	}
	all[0].must(`"action":"publish","room":"room:a","data":{"action":"say","payload":` + text + `}`) // and is understood
	late := dial(t, addr, "user=late&room="+escape("room:a@"+all[0].greeting().Rooms[2].Epoch+":0"))
	for range 4 {
		late.push()
	}

	r, resp := dialRaw(t, addr, "user=raw&room=room:a", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
	if got := resp.Header.Get("Sec-Websocket-Extensions"); got != "permessage-deflate; server_no_context_takeover; client_no_context_takeover" {
		t.Fatalf("extensions: %q", got)
	}
	if _, welcome, err := r.frame(); err != nil || !bytes.Contains(welcome, []byte("welcome")) {
		t.Fatal(string(welcome), err)
	}
	publish(t, h, "room:a", say("n", text))
	first, err := r.br.Peek(1)
	if err != nil || first[0] != 0xc1 {
		t.Fatalf("first byte %x, %v", first, err)
	}
	r.deflated = true
	if _, small, err := r.frame(); err != nil || len(small) > len(text)/10 || !strings.Contains(inflated(t, small), `"payload":`+text) {
		t.Errorf("%d bytes on the wire, %v", len(small), err)
	}
}

func inflated(t *testing.T, small []byte) string {
	t.Helper()
	var out bytes.Buffer
	_, err := out.ReadFrom(flate.NewReader(bytes.NewReader(append(bytes.Clone(small), 0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff))))
	if err != nil {
		t.Error(err)
	}
	return out.String()
}

func deflated(body string) []byte {
	frame := deflateFrame(nil, textFrame([]byte(body)))
	return frame[frameHead(frame):]
}

// What a compressed frame grows to is bounded, whatever it has on the wire.
func TestCompression_bomb(t *testing.T) {
	h := newTestHub(t, Options{Compression: true})
	addr := listen(t, h)
	for _, c := range []struct {
		size int
		want string
	}{{60 << 10, "text:"}, {65 << 10, "close:1009"}, {8 << 20, "close:1009"}} {
		bomb := deflated(`{"id":1,"action":"ping","token":"` + strings.Repeat("x", c.size) + `"}`)
		if len(bomb) > 16<<10 {
			t.Fatalf("%d bytes on the wire", len(bomb))
		}
		r, _ := dialRaw(t, addr, "user=eve", "Sec-WebSocket-Extensions: permessage-deflate")
		_, _, _ = r.frame() // the welcome
		if _, err := r.nc.Write(append(clientFrame(0xc1, bomb), clientFrame(0x88, []byte{3, 0xe8})...)); err != nil {
			t.Fatal(err)
		}
		if got := r.conversation(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%d bytes: %q, want %s", c.size, got, c.want)
		}
	}
}

func TestCompression_handshake(t *testing.T) {
	off, on := newTestHub(t, Options{}), newTestHub(t, Options{Compression: true})
	const yes = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for offer, want := range map[string]string{
		"permessage-deflate":                         yes,
		"permessage-deflate; client_max_window_bits": yes,
		"permessage-deflate; client_max_window_bits=10; server_no_context_takeover":   yes,
		"x-webkit-deflate-frame, permessage-deflate":                                  yes,
		"permessage-deflate; server_max_window_bits=9":                                yes + "; server_max_window_bits=9",
		`permessage-deflate; server_max_window_bits="15"; client_no_context_takeover`: yes + "; server_max_window_bits=15",
		"permessage-deflate; server_max_window_bits=7":                                "",
		"permessage-deflate; server_max_window_bits=016":                              "",
		"permessage-deflate; server_max_window_bits":                                  "",
		"permessage-deflate; server_no_context_takeover=1":                            "",
		"permessage-deflate; server_no_context_takeover; server_no_context_takeover":  "",
		"permessage-deflate; foo":                                                     "",
		"permessage-deflate; foo, permessage-deflate":                                 yes,
		"permessage-deflate;":                                                         "",
		"permessage-bzip2":                                                            "",
		"permessage-deflate; client_max_window_bits=16":                               "",
	} {
		for h, want := range map[*Hub]string{off: "", on: want} {
			r, resp := dialRaw(t, listen(t, h), "user=ada", "Sec-WebSocket-Extensions: "+offer)
			if got := resp.Header.Get("Sec-Websocket-Extensions"); got != want || resp.StatusCode != 101 {
				t.Errorf("offered %q: answered %q, want %q", offer, got, want)
			}
			if _, welcome, err := r.frame(); err != nil || !bytes.Contains(welcome, []byte("welcome")) {
				t.Errorf("offered %q: %s, %v", offer, welcome, err)
			}
			_ = r.nc.Close()
		}
	}
}

func FuzzDeflateOffers(f *testing.F) {
	for _, s := range []string{"", "permessage-deflate", "permessage-deflate; server_max_window_bits=9, x; y=\"z\"", ";;,;=;", "permessage-deflate;client_max_window_bits=\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		o := deflateOffers(http.Header{"Sec-Websocket-Extensions": {line}})
		if !o.taken && o.window != 0 || o.window != 0 && (o.window < 8 || o.window > 15) {
			t.Errorf("%q: %+v", line, o)
		}
	})
}

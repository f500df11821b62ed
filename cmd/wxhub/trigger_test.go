package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wxhub/wechat/sim"
)

// stranger is a server that knows nothing of us: it checks signatures by itself and remembers what came.
type strangeServer struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
}

func newStrangeServer(t *testing.T, good func(r *http.Request, body []byte) bool, yes string) *strangeServer {
	t.Helper()
	s := &strangeServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.bodies = append(s.bodies, string(body))
		s.mu.Unlock()
		if !good(r, body) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, yes)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *strangeServer) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies[len(s.bodies)-1]
}

// trigger runs the command as a shell would.
func trigger(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(context.Background(), append([]string{"trigger"}, args...), nil, &stdout, &stderr)
	return stdout.String() + stderr.String(), code
}

func joinedSHA1(parts ...string) string {
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// trigger --url plays WeChat against a server of other people, without a simulator that runs.
func TestTrigger_otherServers(t *testing.T) {
	t.Run("push", func(t *testing.T) {
		s := newStrangeServer(t, func(r *http.Request, body []byte) bool {
			q := r.URL.Query()
			if q.Get("encrypt_type") == "" {
				return q.Get("signature") == joinedSHA1("their-token", q.Get("timestamp"), q.Get("nonce"))
			}
			var sealed struct{ Encrypt string }
			return json.Unmarshal(body, &sealed) == nil && q.Get("msg_signature") == joinedSHA1("their-token", q.Get("timestamp"), q.Get("nonce"), sealed.Encrypt)
		}, "success")
		out, code := trigger(t, "message", "--url", s.URL+"/push", "--token", "their-token", "--openid", "oTheirs", "--original-id", "gh_theirs", "--content", "你好")
		if code != 0 || !strings.Contains(out, "200") || !strings.Contains(s.last(), `"FromUserName":"oTheirs"`) || !strings.Contains(s.last(), `"ToUserName":"gh_theirs"`) || !strings.Contains(s.last(), "你好") {
			t.Errorf("plain: %d %s\n%s", code, out, s.last())
		}
		out, code = trigger(t, "message", "--url", s.URL+"/push", "--token", "their-token", "--aes-key", strings.Repeat("A", 43), "--appid", "wx1234567890abcdef", "--explain")
		if code != 0 || !strings.Contains(out, "200") || !strings.Contains(s.last(), `"Encrypt"`) || !strings.Contains(out, "push Token, SHA1") || strings.Contains(out, "their-token") {
			t.Errorf("safe: %d %s", code, out)
		}
		if out, code = trigger(t, "message", "--url", s.URL+"/push", "--token", "their-token", "--forge", "signature"); code != 0 || !strings.Contains(out, "403") {
			t.Errorf("forged: %d %s", code, out)
		}
		if out, code = trigger(t, "scan", "--key", "shop3", "--url", s.URL+"/mp", "--token", "their-token"); code != 0 || !strings.Contains(s.last(), "<![CDATA[qrscene_shop3]]>") {
			t.Errorf("official account: %d %s\n%s", code, out, s.last())
		}
	})
	t.Run("pay", func(t *testing.T) {
		keys, err := sim.NewCredentials()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "platform.pem")
		if err := os.WriteFile(file, []byte(keys.PlatformKeyPEM), 0o600); err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(keys.PlatformPublicPEM))
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		s := newStrangeServer(t, func(r *http.Request, body []byte) bool {
			sum := sha256.Sum256([]byte(r.Header.Get("Wechatpay-Timestamp") + "\n" + r.Header.Get("Wechatpay-Nonce") + "\n" + string(body) + "\n"))
			sig, err := base64.StdEncoding.DecodeString(r.Header.Get("Wechatpay-Signature"))
			return err == nil && r.Header.Get("Wechatpay-Serial") == "PUB_KEY_ID_THEIRS" && rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), crypto.SHA256, sum[:], sig) == nil
		}, "")
		args := []string{"pay", "--url", s.URL + "/notify", "--v3-key", strings.Repeat("k", 32), "--platform-key", file, "--public-key-id", "PUB_KEY_ID_THEIRS", "--mchid", "1900000109", "--order", "SHOP000001", "--amount", "100"}
		if out, code := trigger(t, args...); code != 0 || !strings.Contains(out, "200") || !strings.Contains(s.last(), "TRANSACTION.SUCCESS") {
			t.Errorf("v3: %d %s", code, out)
		}
		if out, code := trigger(t, append(args, "--probe")...); code != 0 || !strings.Contains(out, "403") {
			t.Errorf("probe: %d %s", code, out)
		}
		args[0] = "refund"
		if out, code := trigger(t, args...); code != 0 || !strings.Contains(out, "200") || !strings.Contains(s.last(), "REFUND.SUCCESS") {
			t.Errorf("refund: %d %s", code, out)
		}
		yes := newStrangeServer(t, func(*http.Request, []byte) bool { return true }, "<xml><return_code>SUCCESS</return_code></xml>")
		out, code := trigger(t, "pay", "--url", yes.URL+"/notify", "--v2-key", strings.Repeat("k", 32), "--v2-sign-type", "HMAC-SHA256", "--order", "SHOP000001", "--amount", "100")
		if code != 0 || !strings.Contains(yes.last(), "<sign_type><![CDATA[HMAC-SHA256]]>") {
			t.Errorf("v2: %d %s\n%s", code, out, yes.last())
		}
	})
	for name, args := range map[string][]string{
		"no keys of a notify": {"pay", "--url", "http://127.0.0.1:9/", "--v3-key", strings.Repeat("k", 32), "--order", "SHOP000001", "--amount", "1"},
		"no order":            {"pay", "--url", "http://127.0.0.1:9/", "--v2-key", strings.Repeat("k", 32)}, "no such file": {"message", "--url", "http://127.0.0.1:9/", "--keys", "/nowhere.json"},
		"no object": {"some_event", "--fields", "[]", "--token", "t", "--url", "http://127.0.0.1:9/"},
	} {
		if out, code := trigger(t, args...); code == 0 || !strings.Contains(out, "--") && !strings.Contains(out, "push") {
			t.Errorf("%s: %d %s", name, code, out)
		}
	}
}

// wxhub sim speaks HTTPS where it is asked to, and fails as its flags say.
func TestSim_flags(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "k.json")
	c := simCommand{Addr: "127.0.0.1:0", Hub: "http://127.0.0.1:9", Keys: keys, Mode: "safe", Format: "json", TimeScale: 15, KeyMode: "mixed",
		Fault: []string{"path=/cgi-bin/token,status=502,times=1"}, TLS: true}
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := c.Run(ctx, streams{out: in, err: io.Discard})
		in.Close()
		done <- err
	}()
	var printed strings.Builder
	address := ""
	buffer := make([]byte, 4096)
	for !strings.Contains(printed.String(), "SSL_CERT_FILE=") {
		n, err := out.Read(buffer)
		if err != nil {
			t.Fatalf("it ended early: %v\n%s", <-done, printed.String())
		}
		printed.Write(buffer[:n])
	}
	go io.Copy(io.Discard, out)
	for line := range strings.Lines(printed.String()) {
		if _, value, ok := strings.Cut(strings.TrimSpace(line), "WXHUB_WECHAT_API_URL="); ok {
			address = strings.Trim(value, `'"`)
		}
	}
	cert, err := os.ReadFile(strings.TrimSuffix(keys, ".json") + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	for _, want := range []int{502, 200} {
		resp, err := client.Get(address + "/cgi-bin/token")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d, want %d", resp.StatusCode, want)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.Fault = []string{"dance"}
	if err := c.Run(context.Background(), streams{out: io.Discard, err: io.Discard}); err == nil || !strings.Contains(err.Error(), "--fault") {
		t.Errorf("a bad fault: %v", err)
	}
}

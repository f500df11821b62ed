package wechat

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The platform's own examples, and others computed with independent programs.
var vectors = sync.OnceValue(func() map[string]map[string]json.RawMessage {
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		panic(err)
	}
	var all map[string]map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		panic(err)
	}
	return all
})

func vector[T any](t testing.TB, group, name string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(vectors()[group][name], &v); err != nil {
		t.Fatalf("vector %s/%s: %v", group, name, err)
	}
	return v
}

// The merchant's and WeChat Pay's test keys, made anew in every run.
var merchantKey, payKey = sync.OnceValue(newKey), sync.OnceValue(newKey)

func newKey() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

func privatePEM(t testing.TB, k *rsa.PrivateKey) string {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
}

func publicPEM(t testing.TB, k *rsa.PublicKey) string {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
}

func at(seconds int64) func() time.Time {
	return func() time.Time { return time.Unix(seconds, 0) }
}

func parseQuery(t testing.TB, s string) url.Values {
	t.Helper()
	q, err := url.ParseQuery(s)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func query(m map[string]string) url.Values {
	q := url.Values{}
	for k, v := range m {
		q.Set(k, v)
	}
	return q
}

// clientAt makes no calls.
func clientAt(appID string, seconds int64) *Client {
	return &Client{line: newLine("wechat", nil, nil, nil, at(seconds)), appID: appID}
}

const (
	testAppID  = "wx8888888888888888"
	testSecret = "canary-app-secret-5f1c"
)

// newTestClient talks to a server that answers with h.
func newTestClient(t testing.TB, h http.HandlerFunc, change ...func(*Options)) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	o := Options{AppID: testAppID, Secret: testSecret, APIURL: s.URL}
	for _, f := range change {
		f(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.pause = 2 * time.Millisecond
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		c.http.CloseIdleConnections()
	})
	return c
}

package hub

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate makes a certificate for 127.0.0.1 that signs itself, with its key, in dir.
func certificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// Over TLS everything works as without it, and a server that cannot prove who it is is not believed.
func TestRedisBroker_tls(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	s.stop()
	dir := t.TempDir()
	cert, key := certificate(t, dir, "redis")
	other, _ := certificate(t, dir, "other")
	s.cmd = exec.Command("redis-server", "--port", "0", "--tls-port", s.port, "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--loglevel", "warning",
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no", "--requirepass", "pw")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "redis listens", func() bool {
		c, err := net.Dial("tcp", s.addr())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	broker := func(query string) *RedisBroker {
		b, err := newRedisBroker(t.Context(), RedisOptions{URL: "rediss://:pw@" + s.addr() + query, Logger: testLog(t)}, quickRedis)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	good := broker("?ca=" + cert)
	if err := good.Healthy(); err != nil {
		t.Skipf("skipped: this redis-server speaks no TLS: %v", err)
	}
	h := newTestHub(t, Options{Broker: good})
	ada := dial(t, listen(t, h), "user=ada&room=room:tea")
	publish(t, h, "room:tea", say("n", "1"))
	if f := ada.push(); f.Meta.Offset != 1 {
		t.Errorf("heard %s", f.raw)
	}
	for _, query := range []string{"", "?ca=" + other} {
		b := broker(query)
		eventually(t, "the node knows", func() bool { return b.Healthy() != nil })
		if err := b.Healthy(); !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%q: %v", query, err)
		}
	}
	for _, file := range []string{filepath.Join(dir, "none"), key} {
		if _, err := NewRedisBroker(t.Context(), RedisOptions{URL: "rediss://h?ca=" + file}); err == nil || !strings.Contains(err.Error(), "ca:") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

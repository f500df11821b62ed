package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"wxhub/wechat/sim"
)

type simCommand struct {
	Addr       string   `help:"Address of the simulator." default:"127.0.0.1:8081" placeholder:"HOST:PORT"`
	Hub        string   `help:"The hub that gets the pushes." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Keys       string   `help:"File with the keys of both sides; made when it is missing." default:"wxhub-sim.json" type:"path" placeholder:"FILE"`
	Mode       string   `help:"How pushes are sent." enum:"plain,compatible,safe" default:"safe"`
	Format     string   `help:"Format of the mini-program's pushes." enum:"json,xml" default:"json"`
	TimeScale  float64  `help:"How much faster than WeChat's the retries run." default:"15"`
	KeyMode    string   `help:"What WeChat Pay signs with: its public key, platform certificates, or both while a merchant changes over." enum:"public-key,certificate,mixed" default:"public-key"`
	Fault      []string `help:"A fault from the start, such as path=/v3/pay/transactions/jsapi,status=502,times=3 or slow=300,percent=20,always or on=push,forge=signature; may be repeated." sep:"none" placeholder:"FIELD=VALUE,…"`
	Silent     bool     `help:"No notify of a payment or refund ever comes."`
	Unmanaged  bool     `help:"The platform does not manage shipping of this mini-program."`
	EarlyBills bool     `help:"Bills of today are there at once, not on the next day after ten."`
	Page       []string `help:"A page of the released mini-program (default: every well-formed one is there); may be repeated." placeholder:"PATH"`
	TLS        bool     `name:"tls" help:"Speak HTTPS with a certificate made for it, and ask for the merchant's client certificate where Pay v2 does."`
}

// Run serves the simulator until it is told to stop, and prints the settings that a hub needs for it.
func (c simCommand) Run(ctx context.Context, s streams) error {
	state, err := loadDemoState(c.Keys)
	if err != nil {
		return err
	}
	options, err := c.options(state.Credentials)
	if err != nil {
		return err
	}
	options.Logger = newLogger(s.err)
	l, err := listen(ctx, c.Addr, "--addr")
	if err != nil {
		return err
	}
	address := browserURL(l)
	simulator, err := sim.New(options)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	server := &http.Server{Handler: simulator, ReadHeaderTimeout: 5 * time.Second}
	trust := ""
	if c.TLS {
		trust = strings.TrimSuffix(c.Keys, ".json") + ".crt"
		certificate, err := loopbackCertificate(trust)
		if err != nil {
			return errors.Join(err, l.Close(), simulator.Close())
		}
		address = strings.Replace(address, "http://", "https://", 1)
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12})
	}
	c.greet(s, state, address, trust)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err = <-served:
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		err = simulator.Close() // who waits is answered
		if server.Shutdown(stop) != nil {
			_ = server.Close()
		}
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, simulator.Close())
}

// options are what the flags say.
func (c simCommand) options(keys sim.Credentials) (sim.Options, error) {
	o := sim.Options{
		Credentials: keys, PushURL: c.Hub + "/wechat/push", PushMode: c.Mode, PushFormat: c.Format,
		MPURL: c.Hub + "/wechat/mp", MPMode: c.Mode, KeyMode: c.KeyMode, MuteNotify: c.Silent, Unmanaged: c.Unmanaged, Reminders: true,
		EarlyBills: c.EarlyBills, Pages: c.Page, TimeScale: c.TimeScale,
	}
	for _, text := range c.Fault {
		f, err := sim.ParseFault(text)
		if err != nil {
			return o, fmt.Errorf("--fault: %w", err)
		}
		o.Faults = append(o.Faults, f)
	}
	return o, nil
}

// greet prints the settings that a hub needs.
func (c simCommand) greet(s streams, state demoState, address, trust string) {
	values := credentialSettings(state.Credentials)
	values["WECHAT_API_URL"], values["WECHAT_PAY_URL"] = address, address
	values["PAY_NOTIFY_URL"] = c.Hub + "/wechat/pay/notify"
	if c.Mode == "plain" {
		delete(values, "WECHAT_PUSH_AES_KEY")
		delete(values, "WECHAT_MP_AES_KEY")
	}
	fmt.Fprintf(s.out, "# WeChat is simulated on %s; a hub needs these settings for it:\n", address)
	for _, line := range environment(values) {
		fmt.Fprintln(s.out, line)
	}
	if trust != "" {
		fmt.Fprintf(s.out, "SSL_CERT_FILE='%s'\n", trust)
	}
}

// loopbackCertificate makes a certificate for this machine's own address and writes it where hubs find it.
func loopbackCertificate(path string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	now := time.Now()
	form := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "wxhub sim"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// credentialSettings are a hub's settings that fit the simulator's keys.
func credentialSettings(c sim.Credentials) map[string]string {
	return map[string]string{
		"WECHAT_APPID": c.AppID, "WECHAT_SECRET": c.Secret,
		"WECHAT_PUSH_TOKEN": c.PushToken, "WECHAT_PUSH_AES_KEY": c.PushAESKey,
		"PAY_MCHID": c.MchID, "PAY_V3_KEY": c.APIv3Key, "PAY_CERT_SERIAL": c.CertSerial,
		"PAY_PRIVATE_KEY": c.MerchantKeyPEM, "PAY_PUBLIC_KEY_ID": c.PublicKeyID, "PAY_PUBLIC_KEY": c.PlatformPublicPEM,
		"PAY_CERT": c.MerchantCertPEM, "PAY_V2_KEY": c.V2Key, "PAY_V2_SIGN_TYPE": c.V2SignType,
		"WECHAT_MP_APPID": c.MPAppID, "WECHAT_MP_SECRET": c.MPSecret, "WECHAT_MP_TOKEN": c.MPToken, "WECHAT_MP_AES_KEY": c.MPAESKey,
	}
}

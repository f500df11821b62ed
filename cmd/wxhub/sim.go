package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"wxhub/wechat/sim"
)

type simCommand struct {
	Addr      string  `help:"Address of the simulator." default:"127.0.0.1:8081" placeholder:"HOST:PORT"`
	Hub       string  `help:"The hub that gets the pushes." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Keys      string  `help:"File with the keys of both sides; made when it is missing." default:"wxhub-sim.json" type:"path" placeholder:"FILE"`
	Mode      string  `help:"How pushes are sent." enum:"plain,compatible,safe" default:"safe"`
	Format    string  `help:"Format of pushes." enum:"json,xml" default:"json"`
	TimeScale float64 `help:"How much faster than WeChat's the retries run." default:"15"`
}

// Run serves the simulator until it is told to stop, and prints the settings that a hub needs for it.
func (c simCommand) Run(ctx context.Context, s streams) error {
	state, err := loadDemoState(c.Keys)
	if err != nil {
		return err
	}
	l, err := listen(ctx, c.Addr, "--addr")
	if err != nil {
		return err
	}
	simulator, err := sim.New(sim.Options{
		Credentials: state.Credentials, PushURL: c.Hub + "/wechat/push", PushMode: c.Mode, PushFormat: c.Format,
		MPURL: c.Hub + "/wechat/mp", MPMode: c.Mode,
		TimeScale: c.TimeScale, Logger: newLogger(s.err),
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	values := credentialSettings(state.Credentials)
	values["WECHAT_API_URL"], values["WECHAT_PAY_URL"] = browserURL(l), browserURL(l)
	values["PAY_NOTIFY_URL"] = c.Hub + "/wechat/pay/notify"
	if c.Mode == "plain" {
		delete(values, "WECHAT_PUSH_AES_KEY")
		delete(values, "WECHAT_MP_AES_KEY")
	}
	fmt.Fprintf(s.out, "# WeChat is simulated on %s; a hub needs these settings for it:\n", browserURL(l))
	for _, line := range environment(values) {
		fmt.Fprintln(s.out, line)
	}
	server := &http.Server{Handler: simulator, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err = <-served:
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(stop) != nil {
			_ = server.Close()
		}
		err = <-served
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, simulator.Close())
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

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"wxhub/wechat/sim"
)

// stranger are the flags of a trigger against a server that no simulator of ours knows: what that server
// was told in WeChat's consoles. Secrets may come from the environment instead.
type stranger struct {
	URL         string `help:"Send to this address instead of the hub's. With one of the keys below no running simulator is needed." placeholder:"URL"`
	Keys        string `help:"File with the keys, as wxhub sim writes it." type:"path" placeholder:"FILE"`
	Token       string `help:"Token of the message push." env:"WXHUB_WECHAT_PUSH_TOKEN" placeholder:"TEXT"`
	AESKey      string `name:"aes-key" help:"EncodingAESKey of the message push (none: plain mode)." env:"WXHUB_WECHAT_PUSH_AES_KEY" placeholder:"TEXT"`
	AppID       string `name:"appid" help:"Of the mini-program or the official account." placeholder:"ID"`
	OriginalID  string `help:"ToUserName of pushes." placeholder:"gh_…"`
	OpenID      string `name:"openid" help:"Who does it, instead of --user." placeholder:"ID"`
	MchID       string `name:"mchid" help:"Of the merchant." placeholder:"ID"`
	V3Key       string `name:"v3-key" help:"APIv3 key." env:"WXHUB_PAY_V3_KEY" placeholder:"TEXT"`
	PlatformKey string `help:"Private key (PEM) whose public half the server takes for WeChat Pay's." type:"path" placeholder:"FILE"`
	PublicKeyID string `help:"Its id, the Wechatpay-Serial of notifies." placeholder:"PUB_KEY_ID_…"`
	V2Key       string `name:"v2-key" help:"API key of Pay v2: notifies are sent in its form." env:"WXHUB_PAY_V2_KEY" placeholder:"TEXT"`
	V2SignType  string `name:"v2-sign-type" help:"MD5 or HMAC-SHA256." enum:"MD5,HMAC-SHA256" default:"MD5"`
}

// alone tells whether address and keys are given, so that no running simulator is asked.
func (f stranger) alone() bool {
	return f.URL != "" && cmp.Or(f.Keys, f.Token, f.AESKey, f.V3Key, f.PlatformKey, f.V2Key) != ""
}

// simulator makes a WeChat of its own for one trigger, and fits the trigger to it.
func (c triggerCommand) simulator(t *sim.Trigger) (*sim.Sim, error) {
	keys, err := c.credentials(t)
	if err != nil {
		return nil, err
	}
	o := sim.Options{Credentials: keys, PushURL: c.URL, PushMode: c.Mode, PushFormat: c.Format, MPURL: c.URL, MPMode: c.Mode, MPFormat: c.Format}
	own, err := sim.New(o)
	if err != nil {
		return nil, err
	}
	return own, nil
}

// credentials are those of the flags; what the event does not need is made up.
func (f stranger) credentials(t *sim.Trigger) (sim.Credentials, error) {
	var keys sim.Credentials
	if f.Keys != "" {
		if _, err := os.Stat(f.Keys); err != nil {
			return keys, fmt.Errorf("--keys: %w", err)
		}
		state, err := loadDemoState(f.Keys)
		if err != nil {
			return keys, err
		}
		keys = state.Credentials
	} else {
		var err error
		if keys, err = sim.NewCredentials(); err != nil {
			return keys, err
		}
		keys.PushAESKey, keys.MPAESKey = "", ""
	}
	pay := t.Event == "pay" || t.Event == "refund"
	switch {
	case pay && f.Keys == "" && f.V2Key == "" && (f.V3Key == "" || f.PlatformKey == ""):
		return keys, errors.New("a notify needs --v2-key, or --v3-key and --platform-key: a private key of your own, whose public half the server takes for WeChat Pay's (WeChat's own is not to be had)")
	case !pay && f.Keys == "" && f.Token == "":
		return keys, errors.New("a push needs --token, and --aes-key unless it is plain")
	case pay && (t.OutTradeNo == "" || t.Amount == 0):
		return keys, errors.New("name the order of that server by --order and --amount")
	}
	if f.PlatformKey != "" {
		text, err := os.ReadFile(f.PlatformKey)
		if err != nil {
			return keys, fmt.Errorf("--platform-key: %w", err)
		}
		keys.PlatformKeyPEM = string(text)
	}
	for _, part := range []struct {
		value string
		into  []*string
	}{
		{f.Token, []*string{&keys.PushToken, &keys.MPToken}}, {f.AESKey, []*string{&keys.PushAESKey, &keys.MPAESKey}},
		{f.OriginalID, []*string{&keys.OriginalID, &keys.MPOriginalID}}, {f.AppID, []*string{&keys.AppID}},
		{f.MchID, []*string{&keys.MchID}}, {f.V3Key, []*string{&keys.APIv3Key}}, {f.PublicKeyID, []*string{&keys.PublicKeyID}}, {f.V2Key, []*string{&keys.V2Key}},
	} {
		for _, into := range part.into {
			*into = cmp.Or(part.value, *into)
		}
	}
	t.Version = "v3"
	if f.V2Key != "" {
		t.Version, t.SignType = "v2", f.V2SignType
	}
	if f.AppID != "" && t.OfAccount() {
		keys.AppID, keys.MPAppID = "wx0000000000000000", f.AppID // the same appid cannot be both
	}
	return keys, nil
}

// player plays events: a simulator that runs somewhere, or one made for this.
type player interface {
	play(ctx context.Context, t sim.Trigger) (sim.TriggerResult, error)
	look(ctx context.Context, id int64) (sim.Exchange, error)
}

type remote struct{ url string }

func (r remote) play(ctx context.Context, t sim.Trigger) (got sim.TriggerResult, err error) {
	return got, call(ctx, r.url+"/sim/trigger", "", t, &got)
}

func (r remote) look(ctx context.Context, id int64) (got sim.Exchange, err error) {
	return got, call(ctx, fmt.Sprintf("%s/sim/exchange?id=%d", r.url, id), "", nil, &got)
}

type local struct{ sim *sim.Sim }

func (l local) play(ctx context.Context, t sim.Trigger) (sim.TriggerResult, error) {
	return l.sim.Trigger(ctx, t)
}

func (l local) look(_ context.Context, id int64) (sim.Exchange, error) {
	return l.sim.Exchange(id)
}

// explain prints what went over the wire and what its signature was made by.
func explain(ctx context.Context, out io.Writer, p player, id int64) error {
	e, err := p.look(ctx, id)
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	fmt.Fprintf(out, "\n%s %s\n", e.Method, e.URL)
	names := make([]string, 0, len(e.Header))
	for name := range e.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(out, "%s: %s\n", name, e.Header[name])
	}
	fmt.Fprintf(out, "\n%s\n", e.Body)
	if e.Inside != "" && e.Inside != e.Body {
		fmt.Fprintf(out, "\ninside:    %s\n", e.Inside)
	}
	if v := e.Evidence; v != nil {
		fmt.Fprintf(out, "key:       %s\nserial:    %s\nclock:     %+d ms\nbody hash: %s\nsigned:    %d bytes, line ends as \\n\n           %s\n",
			v.Key, v.Serial, v.ClockMs, v.BodySHA256, v.Length, strings.ReplaceAll(v.Signed, "\n", "\\n"))
	}
	return nil
}

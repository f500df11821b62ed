package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wxhub/web/jobs"
)

// runMain is the program in this process.
func runMain(t *testing.T, env []string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, env, &o, &e)
	return code, o.String(), e.String()
}

const goodKeys = "WXHUB_JWT_KEYS=k1:0123456789abcdef0123456789abcdef"

// serve names every bad setting at once, and never a secret.
func TestServe_refusesBadSettings(t *testing.T) {
	secret := "canary-secret-canary-secret"
	code, _, errOut := runMain(t, []string{
		"WXHUB_JWT_KEYS=k1:short", "WXHUB_API_KEYS=a:" + secret + ",a:x", "WXHUB_ADDR=nonsense", "WXHUB_REDIS_URL=http://x", "WXHUB_DATABASE_URL=mysql://x", "WXHUB_ALLOWED_ORIGINS=foo", "WXHUB_LIMIT_USER=fast", "WXHUB_HEARTBEAT=soon",
		"WXHUB_PUBLIC_URL=hub.example", "WXHUB_TRUSTED_PROXIES=everyone", "WXHUB_WECHAT_APPID=wx1", "WXHUB_ALWAYS_200=maybe",
		"WXHUB_PAY_MCHID=1900000109", "WXHUB_PAY_V3_KEY=" + secret, "WXHUB_WECHAT_PUSH_AES_KEY=" + secret, "WXHUB_PUBLIC_ULR=x",
		"WXHUB_DATA=" + filepath.Join(t.TempDir(), "data"),
	}, "serve")
	if code != 1 {
		t.Errorf("exit status %d", code)
	}
	for _, name := range []string{"JWT_KEYS", "API_KEYS", "ADDR", "REDIS_URL", "DATABASE_URL", "ALLOWED_ORIGINS", "LIMIT_USER", "HEARTBEAT", "PUBLIC_URL", "TRUSTED_PROXIES", "ALWAYS_200",
		"WECHAT_SECRET", "PAY_CERT_SERIAL", "PAY_PRIVATE_KEY", "PAY_PUBLIC_KEY", "PAY_PUBLIC_KEY_ID", "WECHAT_PUSH_TOKEN", "PAY_NOTIFY_URL"} {
		if !strings.Contains(errOut, "WXHUB_"+name+":") {
			t.Errorf("%s is not named in:\n%s", name, errOut)
		}
	}
	if !strings.Contains(errOut, "WXHUB_PUBLIC_ULR: did you mean WXHUB_PUBLIC_URL?") {
		t.Errorf("a misspelt name is not beside the others:\n%s", errOut)
	}
	if strings.Contains(errOut, "canary") {
		t.Errorf("a secret is in the error:\n%s", errOut)
	}
	// The keys' own faults are named by the settings' names, beside all else.
	_, _, errOut = runMain(t, []string{"WXHUB_WECHAT_APPID=wx1", "WXHUB_WECHAT_SECRET=x", "WXHUB_PAY_MCHID=x", "WXHUB_PAY_V3_KEY=short",
		"WXHUB_PAY_CERT_SERIAL=zz", "WXHUB_PAY_PRIVATE_KEY=x", "WXHUB_PAY_PUBLIC_KEY_ID=x", "WXHUB_PAY_PUBLIC_KEY=x",
		"WXHUB_WECHAT_PUSH_TOKEN=t", "WXHUB_WECHAT_PUSH_AES_KEY=x", "WXHUB_DATA=" + t.TempDir()}, "serve")
	for _, name := range []string{"JWT_KEYS", "PAY_MCHID", "PAY_V3_KEY", "PAY_CERT_SERIAL", "PAY_PRIVATE_KEY", "PAY_PUBLIC_KEY_ID", "PAY_PUBLIC_KEY",
		"WECHAT_PUSH_AES_KEY", "PAY_NOTIFY_URL"} {
		if !strings.Contains(errOut, "WXHUB_"+name+":") {
			t.Errorf("%s is not named in:\n%s", name, errOut)
		}
	}
	if code, _, errOut = runMain(t, nil, "serve"); code != 1 || !strings.Contains(errOut, "WXHUB_JWT_KEYS: missing") {
		t.Errorf("without settings: %d %s", code, errOut)
	}
}

func TestSettings_sources(t *testing.T) {
	dir := t.TempDir()
	yaml := filepath.Join(dir, "wxhub.yaml")
	password := filepath.Join(dir, "password")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(yaml, "addr: :9000\nadmin_user: boss\npay_mchid: 1900000109\nproducts:\n  - {id: tea, name: 茶, name_en: Tea, price: 1280}\nreplies:\n  - {keyword: hi, text: hello}\n")
	write(password, "from the file\n")
	s, err := loadSettings(yaml, []string{"WXHUB_ADDR=:9001", "WXHUB_ADMIN_PASSWORD_FILE=" + password, "HOME=/"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ADDR": ":9001", "ADMIN_USER": "boss", "ADMIN_PASSWORD": "from the file",
		"PAY_MCHID": "1900000109", "HEARTBEAT": "25s"} {
		if got := s.get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if len(s.Products) != 1 || s.Products[0].PriceFen != 1280 || s.Products[0].NameEN != "Tea" || len(s.Replies) != 1 || s.Replies[0].Text != "hello" {
		t.Errorf("lists: %+v %+v", s.Products, s.Replies)
	}

	for name, c := range map[string]struct{ yaml, env, want string }{
		"misspelt key":      {yaml: "adr: :1", want: "did you mean addr?"},
		"misspelt variable": {env: "WXHUB_PUBLIC_ULR=x", want: "did you mean WXHUB_PUBLIC_URL?"},
		"foreign key":       {yaml: "colour_of_the_roof: red", want: "unknown setting"},
		"price in yuan":     {yaml: "products:\n  - {id: tea, name: 茶, price: 12.80}", want: "products: entry 1: price must be a whole number"},
		"price in words":    {yaml: "products:\n  - {id: tea, name: 茶, price: one}", want: "products: entry 1: price must be a whole number"},
		"unknown key":       {yaml: "products:\n  - {id: tea, name: 茶, price: 1}\n  - {id: tea2, name: 茶, cost: 1}", want: "products: entry 2: has unknown keys: cost"},
		"no list":           {yaml: "hooks: 7", want: "hooks: must be a list"},
		"time for a number": {yaml: "fallbacks:\n  - {action: order.paid, after: 5s}", want: "fallbacks: entry 1: after must be a whole number"},
		"two spellings":     {yaml: "addr: :1\nADDR: :2", want: "ADDR and addr are the same setting"},
		"list for a value":  {yaml: "addr: [a, b]", want: "one value"},
		"no YAML":           {yaml: "a: b: c", want: "wxhub.yaml"},
		"missing file":      {env: "WXHUB_API_KEYS_FILE=" + filepath.Join(dir, "nothing"), want: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "wxhub.yaml")
			write(path, c.yaml)
			_, err := loadSettings(path, []string{c.env})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// Hooks stand in the file alone; a bad one stops the start and is named, its secret is not.
func TestSettings_hooks(t *testing.T) {
	yaml := filepath.Join(t.TempDir(), "wxhub.yaml")
	for text, want := range map[string]string{
		"hooks:\n  - {name: erp, url: 'https://erp.example/in', secret: canary-0123456789, events: [order.eaten]}\n":  "hook erp: events can be order.paid",
		"hooks:\n  - {name: erp, url: erp.example, secret: canary-0123456789}\n":                                      "hook erp: url must be",
		"hooks:\n  - {name: erp, url: 'https://erp.example/in', secret: canary-0123456789, allow_private: perhaps}\n": "hooks",
	} {
		if err := os.WriteFile(yaml, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errOut := runMain(t, []string{goodKeys, "WXHUB_DATA=" + t.TempDir()}, "serve", "--config", yaml)
		if code != 1 || !strings.Contains(errOut, want) || strings.Contains(out+errOut, "canary") {
			t.Errorf("%s: %d %s", text, code, errOut)
		}
	}
	good := "hooks:\n  - {name: erp, url: 'https://erp.example/in', secret: canary-0123456789, events: [order.paid], allow_private: true}\n"
	if err := os.WriteFile(yaml, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := loadSettings(yaml, nil)
	if err != nil || len(s.Hooks) != 1 || s.Hooks[0].Name != "erp" || !s.Hooks[0].AllowPrivate || !s.Hooks[0].Wants("order.paid") || s.Hooks[0].Wants("order.refunded") {
		t.Errorf("%v %v", s, err)
	}
	if code, out, errOut := runMain(t, []string{goodKeys}, "config", "--config", yaml); code != 0 || strings.Contains(out+errOut, "canary") {
		t.Errorf("%d %s%s", code, out, errOut)
	}
}

func TestConfig_masksSecrets(t *testing.T) {
	code, out, _ := runMain(t, []string{goodKeys, "WXHUB_PAY_PRIVATE_KEY=canary", "WXHUB_DATABASE_URL=postgres://u:canary@h/d"}, "config")
	if code != 0 || strings.Contains(out, "canary") || strings.Contains(out, "0123456789abcdef") || !strings.Contains(out, "heartbeat") {
		t.Errorf("%d\n%s", code, out)
	}
}

func TestToken_issues(t *testing.T) {
	code, out, errOut := runMain(t, []string{goodKeys}, "token", "shop-1", "--role", "admin", "--ttl", "1h")
	if code != 0 || strings.Count(strings.TrimSpace(out), ".") != 2 {
		t.Errorf("%d %q %s", code, out, errOut)
	}
	if code, _, _ = runMain(t, []string{goodKeys}, "token", "no spaces please"); code != 1 {
		t.Errorf("a bad user id: exit status %d", code)
	}
	for _, dead := range []string{"-5s", "0s", "10ms"} {
		code, out, errOut = runMain(t, []string{goodKeys}, "token", "shop-1", "--ttl", dead)
		if code != 1 || out != "" || !strings.Contains(errOut, "--ttl") {
			t.Errorf("--ttl %s: %d %q %q", dead, code, out, errOut)
		}
	}
}

func TestCommandName_goRun(t *testing.T) {
	const hash = "42ac63846ccf74f8dfa0382ed574f9b90dc4b9613c74402d0787ed532742a67c"
	for path, want := range map[string]bool{
		"/tmp/go-build2245879463/b001/exe/wxhub": true, "/root/.cache/go-build/42/" + hash + "-d/wxhub": true,
		"/big/cache/42/" + hash + "-d/wxhub": true, "/usr/local/bin/wxhub": false, "/home/a/go-builds/wxhub": false, "/srv/" + hash + "/wxhub": false,
	} {
		if got := fromGoRun(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 0, "wxhub demo"},
		{[]string{"--help"}, 0, "trigger"},
		{[]string{"demmo"}, 2, "demmo"},
		{[]string{"version"}, 0, "wxhub"},
		{[]string{"trigger", "earthquake"}, 2, "pay"},
	} {
		code, out, errOut := runMain(t, nil, c.args...)
		if code != c.code || !strings.Contains(out+errOut, c.want) {
			t.Errorf("%v: %d %q %q", c.args, code, out, errOut)
		}
	}
}

// The fallback rules of the guide are read as they stand there.
func TestSettings_fallbacks(t *testing.T) {
	guide, err := os.ReadFile("../../web/docs/guides/en/mail.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(guide), "```yaml\n")
	text, _, ended := strings.Cut(text, "```")
	if !found || !ended {
		t.Fatal("the guide shows no rules")
	}
	path := filepath.Join(t.TempDir(), "wxhub.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := loadSettings(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := jobs.CheckFallbacks(s.Fallbacks); err != nil || len(s.Fallbacks) != 1 {
		t.Fatalf("%+v: %v", s.Fallbacks, err)
	}
	r := s.Fallbacks[0]
	if r.Action != "order.paid" || r.After != 60 || r.Within != 86400 || r.Quiet != "22:00-08:00" || r.Custom.Text == "" ||
		r.Subscribe.Template != "TEMPLATE_ID" || r.Subscribe.Data["amount2"] != "{total|yuan}元" || len(r.Subscribe.Data) != 3 {
		t.Errorf("read %+v %+v %+v", r, r.Custom, r.Subscribe)
	}
}

// A key that no list has is named: a rule without its quiet hours would wake people.
func TestSettings_unknownKeysOfLists(t *testing.T) {
	yaml := filepath.Join(t.TempDir(), "wxhub.yaml")
	for list, text := range map[string]string{
		"products":  "products:\n  - {id: tea, name: 茶, price: 1280, discribed: leaves}\n",
		"hooks":     "hooks:\n  - {name: shop, url: https://shop.example/hook, discribed: x}\n",
		"replies":   "replies:\n  - {keyword: hi, text: hello, discribed: x}\n",
		"fallbacks": "fallbacks:\n  - {action: order.paid, after: 60, custom: {text: paid}, discribed: \"22:00-08:00\"}\n",
		"custom":    "fallbacks:\n  - {action: order.paid, after: 60, custom: {text: paid, discribed: x}}\n",
	} {
		if err := os.WriteFile(yaml, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadSettings(yaml, nil)
		if err == nil || !strings.Contains(err.Error(), "discribed") || !strings.Contains(err.Error(), yaml) || !strings.Contains(err.Error(), list) {
			t.Errorf("%s with an unknown key: %v", list, err)
		}
	}
}

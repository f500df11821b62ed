package main

import (
	"strings"
	"testing"
)

// A sound deployment has nothing to mend: with a real Redis, a hub that runs and WeChat's simulator.
func TestDoctor_soundDeployment(t *testing.T) {
	redis := startRedis(t)
	addr, simAddr := spareAddress(t), spareAddress(t)
	simulator := startProcess(t, nil, "sim", "--addr", simAddr, "--hub", "http://"+addr, "--keys", t.TempDir()+"/sim.json")
	env := append(simulator.settings(), "WXHUB_ADDR="+addr, "WXHUB_DATA="+t.TempDir(), goodKeys, "WXHUB_API_KEYS="+clusterKey,
		"WXHUB_REDIS_URL="+redis, "WXHUB_PUBLIC_URL=http://"+addr)
	p := startProcess(t, env, "serve")
	p.hub = "http://" + addr
	p.wait("readiness", func() bool { return p.readiness() == 200 })
	code, out, errOut := runMain(t, env, "doctor")
	t.Log(out)
	if code != 0 || !strings.Contains(out, "\n0 to mend") {
		t.Errorf("exit %d: %s", code, errOut)
	}
	for _, want := range []string{
		"ok    settings", "ok    database   SQLite", "redis      version ", "ok    clock", "ok    wechat", "ok    pay", "a socket is welcomed", "is not https", "share Redis",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing says %q", want)
		}
	}

	// One thing wrong at a time: it is named, with what to do, and no secret is.
	for name, c := range map[string]struct{ setting, want, todo string }{
		"settings":       {"WXHUB_TOKEN_TTL=never", "MEND  settings", "wxhub config"},
		"database":       {"WXHUB_DATABASE_URL=postgres://wxhub:canary-doctor@127.0.0.1:1/wxhub?sslmode=disable", "MEND  database", "does the server run"},
		"data folder":    {"WXHUB_DATA=/proc/nowhere", "MEND  database", "folder"},
		"redis":          {"WXHUB_REDIS_URL=redis://:canary-doctor@127.0.0.1:1", "MEND  redis", "does the server run"},
		"secret":         {"WXHUB_WECHAT_SECRET=canary-doctor-canary-doctor-0123", "MEND  wechat", "developer settings"},
		"merchant":       {"WXHUB_PAY_MCHID=1999999999", "MEND  pay", "merchant platform"},
		"other keys":     {"WXHUB_JWT_KEYS=k1:canary-doctor-canary-doctor-canary-doctor", "MEND  reach", "WXHUB_JWT_KEYS"},
		"no WeChat":      {"WXHUB_WECHAT_API_URL=http://127.0.0.1:1", "MEND  wechat", "firewall"},
		"nobody answers": {"WXHUB_PUBLIC_URL=http://127.0.0.1:1", "look  reach", "wxhub serve"},
	} {
		t.Run(name, func(t *testing.T) {
			key, _, _ := strings.Cut(c.setting, "=")
			changed := []string{c.setting}
			for _, line := range env {
				if !strings.HasPrefix(line, key+"=") {
					changed = append(changed, line)
				}
			}
			code, out, errOut := runMain(t, changed, "doctor")
			if wantCode := map[bool]int{true: 1, false: 0}[strings.HasPrefix(c.want, "MEND")]; code != wantCode {
				t.Errorf("exit %d", code)
			}
			_, after, found := strings.Cut(out, c.want)
			if !found || !strings.Contains(after, c.todo) {
				t.Errorf("no %q with %q in\n%s", c.want, c.todo, out)
			}
			if strings.Contains(out+errOut, "canary") {
				t.Errorf("a secret is told:\n%s%s", out, errOut)
			}
		})
	}
}

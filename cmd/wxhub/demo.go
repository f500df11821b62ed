package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"wxhub/hub"
	"wxhub/web"
	"wxhub/wechat/sim"
)

type demoCommand struct {
	Addr    string `help:"Address of the hub." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	SimAddr string `help:"Address of the WeChat simulator (default: the next port)." placeholder:"HOST:PORT"`
	Data    string `help:"Keep everything in this folder (default: a temporary one, removed at the end)." type:"path" placeholder:"DIR"`
	Verbose bool   `short:"v" help:"Log what the hub does."`
}

// demoState is what a demo with --data keeps, so that phones and admins stay logged in over a restart.
type demoState struct {
	Credentials   sim.Credentials `json:"credentials"`
	JWTKey        string          `json:"jwtKey"`
	APIKey        string          `json:"apiKey"`
	AdminPassword string          `json:"adminPassword"`
}

// Run starts simulator and hub, prints where to go, and stops both when ctx ends.
func (c demoCommand) Run(ctx context.Context, s streams) (err error) {
	dir, cleanUp, err := c.folder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanUp()) }()
	state, err := loadDemoState(filepath.Join(dir, "demo.json"))
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if c.Verbose {
		level = slog.LevelDebug
	}
	log := slog.New(levelHandler{newLogger(s.err).Handler(), level})

	l, err := listen(ctx, c.Addr, "--addr")
	if err != nil {
		return err
	}
	defer l.Close()
	simAddr := c.SimAddr
	if simAddr == "" {
		simAddr = nextPort(c.Addr)
	}
	simListener, err := listen(ctx, simAddr, "--sim-addr")
	if err != nil {
		return err
	}
	defer simListener.Close()
	hubURL, simURL := browserURL(l), browserURL(simListener)

	simulator, err := sim.New(sim.Options{
		Credentials: state.Credentials, PushURL: hubURL + "/wechat/push",
		PushMode: "safe", PushFormat: "json", MPURL: hubURL + "/wechat/mp", MPMode: "safe", Merchant: "微光小店", TimeScale: 15, Logger: log,
	})
	if err != nil {
		return err
	}
	a, err := newApp(ctx, c.settings(dir, state, hubURL, simURL), log, &web.Demo{
		SimURL: simURL, AdminUser: "admin", AdminPassword: state.AdminPassword, Command: commandName(),
	})
	if err != nil {
		return errors.Join(err, simulator.Close())
	}
	a.extra = http.NewServeMux()
	a.extra.HandleFunc("GET "+picturePath+"{name}", servePicture)
	log.Warn("demo: members may publish in the room notice; in production only admins and the server do")
	log.Warn("demo: /socket.io/ takes a userId in the address for the user, without a token; in production only a token counts")

	wechat := &http.Server{Handler: simulator, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- wechat.Serve(simListener) }()
	c.greet(s, hubURL, simURL, dir, state)
	err = errors.Join(a.run(ctx, l), simulator.Close()) // who waits at the simulator is answered
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if wechat.Shutdown(stop) != nil {
		_ = wechat.Close() // somebody sends a request without end
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	if err == nil {
		fmt.Fprintln(s.out, "\n已停止 · stopped")
	}
	return err
}

func (c demoCommand) folder() (dir string, cleanUp func() error, err error) {
	if c.Data != "" {
		return c.Data, func() error { return nil }, os.MkdirAll(c.Data, 0o700)
	}
	dir, err = os.MkdirTemp("", "wxhub-demo-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

func (c demoCommand) settings(dir string, state demoState, hubURL, simURL string) *Settings {
	s := defaultSettings()
	for name, value := range credentialSettings(state.Credentials) {
		s.set(name, value, "demo")
	}
	for name, value := range map[string]string{
		"ADDR": strings.TrimPrefix(hubURL, "http://"), "DATA": dir, "DRAIN": "1s", "JWT_KEYS": "demo:" + state.JWTKey, "API_KEYS": "demo:" + state.APIKey,
		"ADMIN_USER": "admin", "ADMIN_PASSWORD": state.AdminPassword, "ALLOWED_ORIGINS": "*",
		"WECHAT_API_URL": simURL, "WECHAT_PAY_URL": simURL, "PAY_NOTIFY_URL": hubURL + "/wechat/pay/notify",
		"MODERATE_FAIL_OPEN": "true", // guests of Socket.IO are nobody that WeChat could judge; it judges everybody else
	} {
		s.set(name, value, "demo")
	}
	s.Products, s.Replies = demoProducts(), demoReplies()
	return s
}

// demoRules let members speak in notice, so that the well-known article's client runs as it stands, and let
// everybody say anything at once.
func demoRules(rules []hub.Rule) []hub.Rule {
	rules = slices.Clone(rules)
	for i := range rules {
		rules[i].Moderate = false
		if rules[i].Pattern == "notice" {
			rules[i].Publish = hub.Member
		}
	}
	return rules
}

func loadDemoState(path string) (demoState, error) {
	var state demoState
	text, err := os.ReadFile(path)
	if err == nil {
		if err = json.Unmarshal(text, &state); err != nil {
			return state, fmt.Errorf("%s is damaged: remove it or choose another --data folder: %w", path, err)
		}
		return state, state.Credentials.Complete()
	}
	if !errors.Is(err, os.ErrNotExist) {
		return state, err
	}
	if state.Credentials, err = sim.NewCredentials(); err != nil {
		return state, err
	}
	state.JWTKey, state.APIKey, state.AdminPassword = rand.Text()+rand.Text(), rand.Text(), rand.Text()[:12]
	text, err = json.MarshalIndent(state, "", "  ")
	if err != nil {
		return state, err
	}
	return state, os.WriteFile(path, text, 0o600)
}

// listen names the setting or flag by which another address is chosen.
func listen(ctx context.Context, addr, by string) (net.Listener, error) {
	if err := checkAddress(addr); err != nil {
		return nil, fmt.Errorf("%s: %w", by, err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w\nAnother program is on this address: choose one with %s, such as 127.0.0.1:9090", err, by)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", by, err)
	}
	return l, nil
}

// nextPort is one above; a port that the system chooses stays so.
func nextPort(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	n, nerr := strconv.Atoi(port)
	if err != nil || nerr != nil || n == 0 {
		return net.JoinHostPort(host, "0")
	}
	return net.JoinHostPort(host, strconv.Itoa(n+1))
}

// browserURL is how a browser on this machine reaches the listener.
func browserURL(l net.Listener) string {
	a := l.Addr().(*net.TCPAddr)
	if a.IP.IsUnspecified() {
		return "http://127.0.0.1:" + strconv.Itoa(a.Port)
	}
	return "http://" + a.String()
}

func (c demoCommand) greet(s streams, hubURL, simURL, dir string, state demoState) {
	kept := dir
	if c.Data == "" {
		kept += "（结束时删除 removed at the end）"
	}
	fmt.Fprintf(s.out, `
  wxhub demo · 模拟微信，真实其余  (a simulated WeChat, the rest is real)

  入口 door        %[1]s/
  手机 phones      %[1]s/phone/
  后台 console     %[1]s/console/
  文档 documents   %[1]s/docs/
  微信模拟器 WeChat %[2]s/
  管理员 admin     admin / %[3]s
  API key          %[4]s
  数据 data        %[5]s

  打开手机页，左边买一件，右边立刻看到。
  Open the phones, buy on the left one, and watch the right one.
  另一个终端 in another terminal:  %[7]s trigger pay%[6]s
  Ctrl-C 停止 stops

`, hubURL, simURL, state.AdminPassword, state.APIKey, kept, triggerFlags(hubURL, simURL), commandName())
}

// levelHandler keeps records below its level out of a quiet demo.
type levelHandler struct {
	slog.Handler
	level slog.Level
}

func (h levelHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, max(l, slog.LevelInfo))
}

func (h levelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelHandler{h.Handler.WithAttrs(attrs), h.level}
}

func (h levelHandler) WithGroup(name string) slog.Handler {
	return levelHandler{h.Handler.WithGroup(name), h.level}
}

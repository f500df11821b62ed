package main

import (
	"cmp"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"wxhub/store"
	"wxhub/web"
)

// A setting is one row of the table below. Its variable is WXHUB_ + NAME, its key in wxhub.yaml the name in
// lower case; NAME_FILE reads the value from a file.
type setting struct {
	name     string
	fallback string
	secret   bool
	help     string
}

var settingsTable = []setting{
	{"ADDR", ":8080", false, "address to listen on"},
	{"DATA", "wxhub-data", false, "folder for the embedded database and the rooms' streams"},
	{"DATABASE_URL", "", true, "empty: SQLite in the data folder"},
	{"DATABASE_CONNS", "16", false, "the most connections of this node to PostgreSQL; those of all nodes stay below its max_connections"},
	{"REDIS_URL", "", true, "empty: one node; redis://…, rediss://…, several addresses = Cluster, ?master_name= = Sentinel"},
	{"PUBLIC_URL", "", false, "https://hub.example: callback and picture URLs begin with it"},
	{"JWT_KEYS", "", true, "kid:secret,… of at least 32 bytes; the first signs, all verify"},
	{"TOKEN_TTL", "24h", false, "how long a login's token is good"},
	{"ADMIN_USER", "admin", false, "name of the admin"},
	{"ADMIN_PASSWORD", "", true, "empty: no admin login"},
	{"API_KEYS", "", true, "key,… or name:key,… for the shop's own systems"},
	{"TRUSTED_PROXIES", "", false, "networks whose X-Forwarded-For is believed"},
	{"ALLOWED_ORIGINS", "", false, "comma list, * = any; empty: the same host"},
	{"ALWAYS_200", "false", false, "answer every /api call with status 200"},
	{"LIMIT_ADDRESS", "100/s,500", false, "requests of one address without a valid token"},
	{"LIMIT_USER", "20/s,60", false, "requests of one user"},
	{"LIMIT_FRAME", "16KiB", false, "largest frame of a client: a chat message, not an upload"},
	{"LIMIT_INFLATED", "64KiB", false, "what a compressed frame may grow to: text shrinks to a quarter, only a bomb to a thousandth"},
	{"LIMIT_FRAMES", "20/s,60", false, "frames of one socket: a page sends few, but joins its rooms all at once"},
	{"LIMIT_BAD_FRAMES", "20", false, "bad frames of one socket in a minute: more than a mistake makes"},
	{"LIMIT_ROOMS", "128", false, "rooms of one socket besides all and user:ID: more than a page shows"},
	{"LIMIT_USER_SOCKETS", "8,close-oldest", false, "sockets of one user, and what one too many does: a few devices, and lines not known to be dead yet"},
	{"LIMIT_ADDRESS_SOCKETS", "20000,refuse-new", false, "sockets of one address, loopback apart: a phone network has thousands of people behind one"},
	{"LIMIT_QUEUE", "1MiB,1000", false, "bytes and messages that may wait for one slow reader: some seconds of a busy room"},
	{"LIMIT_WRITE_WAIT", "5s", false, "how long a reader may take nothing at all: longer than a phone changes its network"},
	{"LIMIT_UNAUTHENTICATED", "5s", false, "how long a connection may take to say who it is: a handshake takes one round trip"},
	{"COMPRESSION", "false", false, "permessage-deflate for clients that offer it: less traffic for long messages, more CPU"},
	{"LIMIT_HANDSHAKES", "2000/s", false, "WebSocket handshakes of this node"},
	{"HEARTBEAT", "25s", false, "how long a socket may be quiet before the server sends a ping"},
	{"DRAIN", "10s", false, "over how long a stop spreads the closing of sockets"},
	{"MAIL_AGE", "720h", false, "how long mail is kept that nobody acknowledges"},
	{"MAIL_COUNT", "1000", false, "letters that one mailbox keeps"},
	{"MODERATE_FAIL_OPEN", "false", false, "show text that WeChat could not judge"},
	{"WECHAT_API_URL", "https://api.weixin.qq.com", false, "the platform's API"},
	{"WECHAT_PAY_URL", "https://api.mch.weixin.qq.com", false, "WeChat Pay's API"},
	{"WECHAT_APPID", "", false, "the mini-program's appid"},
	{"WECHAT_SECRET", "", true, "the mini-program's AppSecret"},
	{"WECHAT_CLASSIC_TOKEN", "false", false, "fetch access tokens by cgi-bin/token, which ends the one before; else stable_token"},
	{"WECHAT_PUSH_TOKEN", "", true, "message push: Token"},
	{"WECHAT_PUSH_AES_KEY", "", true, "message push: EncodingAESKey; empty: plain mode"},
	{"WECHAT_MP_APPID", "", false, "the official account's appid"},
	{"WECHAT_MP_SECRET", "", true, "the official account's AppSecret"},
	{"WECHAT_MP_TOKEN", "", true, "the official account's push Token"},
	{"WECHAT_MP_AES_KEY", "", true, "its EncodingAESKey; empty: plain mode"},
	{"PAY_MCHID", "", false, "merchant number"},
	{"PAY_VERSION", "v3", false, "v3 or v2"},
	{"PAY_V2_KEY", "", true, "v2: API key, 32 characters"},
	{"PAY_V2_SIGN_TYPE", "MD5", false, "v2: MD5 or HMAC-SHA256"},
	{"PAY_CERT", "", false, "v2: merchant certificate (PEM), for refunds"},
	{"PAY_V3_KEY", "", true, "APIv3 key, 32 bytes"},
	{"PAY_CERT_SERIAL", "", false, "serial of the merchant certificate"},
	{"PAY_PRIVATE_KEY", "", true, "merchant private key (PEM); v2: for refunds"},
	{"PAY_PUBLIC_KEY_ID", "", false, "PUB_KEY_ID_…"},
	{"PAY_PUBLIC_KEY", "", false, "WeChat Pay's public key (PEM)"},
	{"PAY_PLATFORM_CERTIFICATES", "false", false, "v3: verify by platform certificates, which are downloaded; the public key may be missing"},
	{"PAY_ORDER_LIFE", "2h", false, "how long an order may stay unpaid before it is closed"},
	{"PAY_NOTIFY_URL", "", false, "default: PUBLIC_URL + /wechat/pay/notify"},
}

// Settings are what serve runs with.
type Settings struct {
	values   map[string]string // by name
	origin   map[string]string // by name: where the value came from
	Products []web.Product
	Hooks    []web.Hook
	Replies  []web.Reply

	Fallbacks []web.FallbackRule
	Rooms     []roomRule

	faults error // what file and variables say that is not understood, such as a misspelt name
}

func (s *Settings) get(name string) string { return s.values[name] }

func (s *Settings) set(name, value, origin string) {
	s.values[name], s.origin[name] = value, origin
}

// defaultSettings has every setting at its fallback.
func defaultSettings() *Settings {
	s := &Settings{values: map[string]string{}, origin: map[string]string{}}
	for _, row := range settingsTable {
		s.set(row.name, row.fallback, "default")
	}
	return s
}

// loadSettings reads the file (path empty: wxhub.yaml when it is there), then the variables, which win.
// The error names every bad key, not only the first.
func loadSettings(path string, env []string) (*Settings, error) {
	s, err := readSettings(path, env)
	if err == nil {
		err = s.faults
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// readSettings is loadSettings for who names every fault at once: only a file that cannot be read at all is an error,
// the rest waits in faults.
func readSettings(path string, env []string) (*Settings, error) {
	s := defaultSettings()
	if path == "" {
		if _, err := os.Stat("wxhub.yaml"); err == nil {
			path = "wxhub.yaml"
		}
	}
	if path != "" {
		if err := s.readFile(path); err != nil {
			return nil, err
		}
	}
	s.faults = errors.Join(s.faults, s.readEnv(env))
	return s, nil
}

// ownVariables steer tests and tools and are no settings.
var ownVariables = []string{"WXHUB_BIN", "WXHUB_SCREENSHOTS", "WXHUB_CHAOS"}

func (s *Settings) readEnv(env []string) error {
	var errs []error
	fromFile := map[string]bool{}
	for _, line := range env {
		key, value, _ := strings.Cut(line, "=")
		name, ours := strings.CutPrefix(key, "WXHUB_")
		if !ours || slices.Contains(ownVariables, key) {
			continue
		}
		if known(name) {
			if !fromFile[name] {
				s.set(name, value, key)
			} else {
				errs = append(errs, fmt.Errorf("%s and %s_FILE are both set: keep one", key, key))
			}
			continue
		}
		if base, isFile := strings.CutSuffix(name, "_FILE"); isFile && known(base) {
			if s.origin[base] == "WXHUB_"+base {
				errs = append(errs, fmt.Errorf("WXHUB_%s and %s are both set: keep one", base, key))
				continue
			}
			text, err := os.ReadFile(value)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", key, err))
				continue
			}
			fromFile[base] = true
			s.set(base, strings.TrimRight(string(text), "\r\n"), key)
			continue
		}
		errs = append(errs, unknownSetting(key, func(n string) string { return "WXHUB_" + n }))
	}
	return errors.Join(errs...)
}

func known(name string) bool {
	return slices.ContainsFunc(settingsTable, func(r setting) bool { return r.name == name })
}

// unknownSetting suggests the nearest name.
func unknownSetting(key string, shown func(string) string) error {
	best, distance := "", len(key)
	bare := strings.TrimPrefix(strings.ToUpper(key), "WXHUB_")
	for _, row := range settingsTable {
		if d := editDistance(bare, row.name); d < distance {
			best, distance = row.name, d
		}
	}
	if distance <= 1+len(bare)/3 {
		return fmt.Errorf("unknown setting %s: did you mean %s?", key, shown(best))
	}
	return fmt.Errorf("unknown setting %s: `wxhub config` lists all", key)
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for j := range len(b) {
			up := row[j+1]
			change := left
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, up+1, row[j]+1)
			left = up
		}
	}
	return row[len(b)]
}

// The typed readings below collect their complaints in check.
type check struct {
	s     *Settings
	errs  []error
	warns []func(*slog.Logger)
}

func (c *check) warn(text string, args ...any) {
	c.warns = append(c.warns, func(log *slog.Logger) { log.Warn(text, args...) })
}

// own puts our settings' names before complaints of a library that begin with its fields' names.
func (c *check) own(err error, names map[string]string) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		text := strings.TrimPrefix(line, "wechat: ")
		field, _, _ := strings.Cut(strings.ReplaceAll(text, ":", " "), " ")
		name, ok := names[field]
		if !ok {
			name = names[""]
		}
		c.fail(name, "%s", text)
	}
}

// address demands HOST:PORT, :PORT with a port that can be listened on.
func (c *check) address(name string) {
	if err := checkAddress(c.s.get(name)); err != nil {
		c.fail(name, "%v", err)
	}
}

func checkAddress(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if n, nerr := strconv.Atoi(port); err != nil || nerr != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is no address: write HOST:PORT or :PORT", addr)
	}
	return nil
}

// scheme demands that a URL begins with one of the schemes. An empty one passes.
func (c *check) scheme(name, what string, schemes ...string) {
	text := c.s.get(name)
	scheme, _, found := strings.Cut(text, "://")
	if text != "" && (!found || !slices.Contains(schemes, scheme)) {
		c.fail(name, "begins with none of %s://: %s", strings.Join(schemes, "://, "), what)
	}
}

// origins demands * or scheme://host for each.
func (c *check) origins(name string) []string {
	list := commaList(c.s.get(name))
	for _, o := range list {
		u, err := url.Parse(o)
		if o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "") {
			c.fail(name, "%q is no origin: write https://shop.example or *", o)
		}
	}
	return list
}

func (c *check) fail(name, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("WXHUB_%s: %s", name, fmt.Sprintf(format, args...)))
}

func (c *check) duration(name string, low, high time.Duration) time.Duration {
	d, err := time.ParseDuration(c.s.get(name))
	if err != nil || d < low || d > high {
		c.fail(name, "%q is not a duration between %s and %s", c.s.get(name), low, high)
	}
	return d
}

func (c *check) count(name string, low, high int) int {
	n, err := strconv.Atoi(c.s.get(name))
	if err != nil || n < low || n > high {
		c.fail(name, "%q is not a number between %d and %d", c.s.get(name), low, high)
	}
	return n
}

func (c *check) boolean(name string) bool {
	b, err := strconv.ParseBool(c.s.get(name))
	if err != nil {
		c.fail(name, "%q is neither true nor false", c.s.get(name))
	}
	return b
}

func (c *check) rate(name string) web.Rate {
	r, err := web.ParseRate(c.s.get(name))
	if err != nil {
		c.fail(name, "%v", err)
	}
	return r
}

// url demands an absolute http(s) URL without query and gives it without a slash at the end.
func (c *check) url(name string) string {
	text := c.s.get(name)
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		c.fail(name, "%q is not an http(s) URL without query", text)
		return ""
	}
	return strings.TrimRight(text, "/")
}

func (c *check) jwtKeys() []web.Key {
	var keys []web.Key
	if c.s.get("JWT_KEYS") == "" {
		c.fail("JWT_KEYS", "missing: set it to kid:secret with a random secret of at least 32 bytes (openssl rand -hex 32)")
		return nil
	}
	for part := range strings.SplitSeq(c.s.get("JWT_KEYS"), ",") {
		kid, secret, ok := strings.Cut(strings.TrimSpace(part), ":")
		switch {
		case !ok || kid == "":
			c.fail("JWT_KEYS", "each entry is kid:secret")
		case len(secret) < 32:
			c.fail("JWT_KEYS", "the secret of %q has %d bytes, at least 32 are needed", kid, len(secret))
		case slices.ContainsFunc(keys, func(k web.Key) bool { return k.ID == kid }):
			c.fail("JWT_KEYS", "kid %q stands twice", kid)
		default:
			keys = append(keys, web.Key{ID: kid, Secret: []byte(secret)})
		}
	}
	return keys
}

// apiKeys maps name to key; a bare key is called key1, key2 …
func (c *check) apiKeys() map[string]string {
	keys := map[string]string{}
	if c.s.get("API_KEYS") == "" {
		return keys
	}
	for i, part := range strings.Split(c.s.get("API_KEYS"), ",") {
		name, key, named := strings.Cut(strings.TrimSpace(part), ":")
		if !named {
			name, key = "key"+strconv.Itoa(i+1), name
		}
		switch {
		case key == "" && name == "key"+strconv.Itoa(i+1): // a comma at the end
		case key == "":
			c.fail("API_KEYS", "key %q is empty", name)
		case keys[name] != "":
			c.fail("API_KEYS", "name %q stands twice", name)
		default:
			keys[name] = key
			if len(key) < 16 {
				c.warn("an API key is shorter than 16 characters and may be guessed", "key", name)
			}
		}
	}
	return keys
}

func (c *check) networks(name string) (list []netip.Prefix) {
	for _, part := range commaList(c.s.get(name)) {
		p, err := netip.ParsePrefix(part)
		if a, aerr := netip.ParseAddr(part); err != nil && aerr == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			c.fail(name, "%q is not a network like 10.0.0.0/8", part)
			continue
		}
		list = append(list, p)
	}
	return list
}

// together demands all the settings or none, and tells whether they are there.
func (c *check) together(names ...string) bool {
	var missing []string
	for _, n := range names {
		if c.s.get(n) == "" {
			missing = append(missing, n)
		}
	}
	if len(missing) == len(names) {
		return false
	}
	for _, n := range missing {
		c.fail(n, "missing, because other settings of its group are set")
	}
	return len(missing) == 0
}

func commaList(s string) (list []string) {
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// pem turns \n written as two characters into line ends.
func (s *Settings) pem(name string) string { return strings.ReplaceAll(s.get(name), `\n`, "\n") }

// sealKeys derive from the JWT keys, so that rotating those rotates the sealing too: the first seals, all open.
func sealKeys(keys []web.Key) ([]store.Key, error) {
	var list []store.Key
	for _, k := range keys {
		secret, err := hkdf.Key(sha256.New, k.Secret, nil, "wxhub secrets at rest", 32)
		if err != nil {
			return nil, fmt.Errorf("derive the sealing key: %w", err)
		}
		list = append(list, store.Key{ID: k.ID, Secret: secret})
	}
	return list, nil
}

// databaseURL is where the store opens.
func (s *Settings) databaseURL() string {
	return cmp.Or(s.get("DATABASE_URL"), filepath.Join(s.get("DATA"), "wxhub.db"))
}

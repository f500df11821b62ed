package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/web"
	"wxhub/web/jobs"
	"wxhub/wechat"
)

// An app is one node: everything that serve and demo run, built in the order in which it leans on
// what stands before it, and stopped in reverse.
type app struct {
	log     *slog.Logger
	streams string // file that keeps the rooms' streams over a clean stop; empty: none
	drain   time.Duration
	// patience is how long a connection may take to say who it is.
	patience time.Duration

	db     *store.DB
	broker hub.Broker
	hub    *hub.Hub
	web    *web.Server
	jobs   *jobs.Jobs
	http   *http.Server
	front  *web.Front     // stands before it
	extra  *http.ServeMux // the demo's own paths, before web's; nil: none
}

// newApp checks every setting, then builds. demo is nil in production.
func newApp(ctx context.Context, s *Settings, log *slog.Logger, demo *web.Demo) (*app, error) {
	build, err := plan(s, log, demo)
	if err != nil {
		return nil, err
	}
	return build(ctx)
}

// plan checks every setting and touches nothing; build does what they say.
func plan(s *Settings, log *slog.Logger, demo *web.Demo) (build func(ctx context.Context) (*app, error), err error) {
	c := &check{s: s, errs: []error{s.faults}}
	keys := c.jwtKeys()
	ttl := c.duration("TOKEN_TTL", time.Minute, 30*24*time.Hour)
	failOpen := c.boolean("MODERATE_FAIL_OPEN")
	orderLife := c.duration("PAY_ORDER_LIFE", 5*time.Minute, 7*24*time.Hour)
	heartbeat := c.duration("HEARTBEAT", time.Second, 10*time.Minute)
	opts := web.Options{
		AppID: s.get("WECHAT_APPID"), MchID: s.get("PAY_MCHID"),
		PublicURL: c.url("PUBLIC_URL"),
		AdminUser: s.get("ADMIN_USER"), AdminPassword: s.get("ADMIN_PASSWORD"),
		APIKeys:        c.apiKeys(),
		TrustedProxies: c.networks("TRUSTED_PROXIES"),
		AllowedOrigins: c.origins("ALLOWED_ORIGINS"),
		Limits: web.Limits{
			Address: c.rate("LIMIT_ADDRESS"), User: c.rate("LIMIT_USER"),
			Handshakes: c.rate("LIMIT_HANDSHAKES"), AdminLogin: web.Rate{PerSecond: 5.0 / 60, Burst: 5},
		},
		Always200: c.boolean("ALWAYS_200"),
		Products:  s.Products, Replies: s.Replies, Hooks: s.Hooks,
		Demo: demo, Node: uuid.NewString(), Addr: s.get("ADDR"), Version: version(), Logger: log,
	}
	limits, compression := c.hubLimits(), c.boolean("COMPRESSION")
	rules, err := roomRules(s.Rooms)
	if err != nil {
		c.errs = append(c.errs, err)
	}
	if demo != nil {
		rules = demoRules(rules)
	}
	a := &app{log: log, drain: c.duration("DRAIN", 0, 10*time.Minute), patience: c.duration("LIMIT_UNAUTHENTICATED", 500*time.Millisecond, time.Minute)}
	conns := c.count("DATABASE_CONNS", 2, 1000)
	mailAge, mailCount := c.duration("MAIL_AGE", time.Hour, 10*365*24*time.Hour), c.count("MAIL_COUNT", 10, 100_000)
	c.address("ADDR")
	c.scheme("REDIS_URL", "is it the address of a Redis?", "redis", "rediss")
	if strings.Contains(s.get("DATABASE_URL"), "://") {
		c.scheme("DATABASE_URL", "empty means SQLite in the data folder", "postgres", "postgresql")
	}
	if s.get("ADMIN_PASSWORD") == "" && s.origin["ADMIN_USER"] != "default" {
		c.warn("WXHUB_ADMIN_USER is set, but no WXHUB_ADMIN_PASSWORD: no admin can log in")
	}
	platform := c.platform(&opts, log)
	if err := jobs.CheckHooks(s.Hooks); err != nil {
		c.errs = append(c.errs, fmt.Errorf("hooks: %w", err))
	}
	if err := jobs.CheckFallbacks(s.Fallbacks); err != nil {
		c.errs = append(c.errs, fmt.Errorf("fallbacks: %w", err))
	}
	if err := errors.Join(c.errs...); err != nil {
		return nil, fmt.Errorf("the settings are not right:\n%w", err)
	}
	for _, say := range c.warns {
		say(log)
	}
	return func(ctx context.Context) (_ *app, err error) {
		defer func() {
			if err != nil {
				err = errors.Join(err, a.discard())
			}
		}()
		if err := os.MkdirAll(s.get("DATA"), 0o700); err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
		seal, err := sealKeys(keys)
		if err != nil {
			return nil, err
		}
		if a.db, err = store.Open(ctx, store.Options{URL: s.databaseURL(), Conns: conns, MailAge: mailAge, MailCount: mailCount, Keys: seal, Logger: log}); err != nil {
			return nil, err
		}
		if opts.Tokens, err = web.NewTokens(keys, ttl, a.db); err != nil {
			return nil, err
		}
		if redisURL := s.get("REDIS_URL"); redisURL != "" {
			if s.get("DATABASE_URL") == "" {
				log.Warn("Redis without a shared database: rooms are shared by the nodes; users, orders and mail are NOT. Set WXHUB_DATABASE_URL")
			}
			b, err := hub.NewRedisBroker(ctx, hub.RedisOptions{URL: redisURL, Logger: log})
			if err != nil {
				return nil, fmt.Errorf("WXHUB_REDIS_URL: %w", err)
			}
			a.broker = b
		} else {
			a.streams = filepath.Join(s.get("DATA"), "rooms.stream")
			b, err := restoreBroker(a.streams, log)
			if err != nil {
				return nil, err
			}
			a.broker = b
		}
		if err := platform(a.db, &opts); err != nil {
			return nil, err
		}
		opts.Moderator = &web.Moderator{Store: a.db, WeChat: opts.WeChat, FailOpen: failOpen, Logger: log}
		if a.hub, err = hub.New(hub.Options{
			Broker: a.broker, Mail: web.Mailbox(a.db, opts.Node), Rules: rules, Heartbeat: heartbeat,
			Authenticate: opts.Tokens.Check, Moderate: opts.Moderator.Moderate, Logger: log,
			Limits: limits, Compression: compression,
		}); err != nil {
			return nil, err
		}
		opts.Hub, opts.Store = a.hub, a.db
		if opts.Fallbacks, err = jobs.NewFallbacks(ctx, a.db, s.Fallbacks); err != nil {
			return nil, err
		}
		if a.web, err = web.New(opts); err != nil {
			return nil, err
		}
		work := jobs.Options{
			Hub: a.hub, Store: a.db, WeChat: opts.WeChat, MP: opts.MPClient, Hooks: opts.Hooks, Node: opts.Node, Logger: log, BeforeRelay: beforeRelay,
			BeforeSend: beforeSend, AfterSend: afterSend, AppID: opts.AppID, MPAppID: opts.MPAppID, Fallbacks: opts.Fallbacks,
		}
		if opts.Pay != nil {
			work.Till, work.OrderLife = a.web.Till(), orderLife
		}
		a.jobs = jobs.New(work)
		a.web.Measure(a.jobs)
		return a, nil
	}, nil
}

// platform checks WeChat's settings at once and returns the step that builds its clients when the store stands.
func (c *check) platform(opts *web.Options, log *slog.Logger) func(*store.DB, *web.Options) error {
	s := c.s
	login, classic := c.together("WECHAT_APPID", "WECHAT_SECRET"), c.boolean("WECHAT_CLASSIC_TOKEN")
	apiURL, payURL := c.url("WECHAT_API_URL"), c.url("WECHAT_PAY_URL")
	if s.get("WECHAT_PUSH_AES_KEY") != "" && s.get("WECHAT_PUSH_TOKEN") == "" {
		c.fail("WECHAT_PUSH_TOKEN", "missing, because WXHUB_WECHAT_PUSH_AES_KEY is set")
	}
	var pays bool
	switch s.get("PAY_VERSION") {
	case "v3":
		names := []string{"PAY_MCHID", "PAY_V3_KEY", "PAY_CERT_SERIAL", "PAY_PRIVATE_KEY"}
		if c.boolean("PAY_PLATFORM_CERTIFICATES") {
			c.together("PAY_PUBLIC_KEY_ID", "PAY_PUBLIC_KEY")
		} else {
			names = append(names, "PAY_PUBLIC_KEY_ID", "PAY_PUBLIC_KEY")
		}
		pays = c.together(names...)
	case "v2":
		pays = c.together("PAY_MCHID", "PAY_V2_KEY")
	default:
		c.fail("PAY_VERSION", "%q is neither v3 nor v2", s.get("PAY_VERSION"))
	}
	notifyURL := c.url("PAY_NOTIFY_URL")
	if pays && !login {
		c.fail("WECHAT_APPID", "missing, because payment is set up")
	}
	if notifyURL == "" && opts.PublicURL != "" {
		notifyURL = opts.PublicURL + "/wechat/pay/notify"
	}
	if s.get("PAY_MCHID") != "" && notifyURL == "" && s.get("PAY_NOTIFY_URL") == "" {
		c.fail("PAY_NOTIFY_URL", "missing: set it, or WXHUB_PUBLIC_URL")
	}
	if token := s.get("WECHAT_PUSH_TOKEN"); token != "" {
		var err error
		opts.Push, err = wechat.NewReceiver(wechat.PushOptions{
			AppID: s.get("WECHAT_APPID"), Token: token, AESKey: s.get("WECHAT_PUSH_AES_KEY"),
		})
		if err != nil {
			c.own(err, map[string]string{"": "WECHAT_PUSH_TOKEN", "AESKey": "WECHAT_PUSH_AES_KEY", "AppID": "WECHAT_APPID"})
		}
	}
	mp := c.together("WECHAT_MP_APPID", "WECHAT_MP_TOKEN")
	if !mp && (s.get("WECHAT_MP_AES_KEY") != "" || s.get("WECHAT_MP_SECRET") != "") {
		c.fail("WECHAT_MP_APPID", "missing, because other settings of its group are set")
	}
	if mp {
		var err error
		opts.MPAppID = s.get("WECHAT_MP_APPID")
		opts.MP, err = wechat.NewReceiver(wechat.PushOptions{
			AppID: opts.MPAppID, Token: s.get("WECHAT_MP_TOKEN"), AESKey: s.get("WECHAT_MP_AES_KEY"),
		})
		if err != nil {
			c.own(err, map[string]string{"": "WECHAT_MP_TOKEN", "AESKey": "WECHAT_MP_AES_KEY", "AppID": "WECHAT_MP_APPID"})
		}
	}
	if pays && login {
		if _, err := newPay(s, payURL, cmp.Or(notifyURL, "https://missing.invalid/"), nil, nil, log); err != nil { // missing: said above
			c.own(err, paySettings)
		}
	}
	return func(db *store.DB, opts *web.Options) (err error) {
		opts.Calls = web.NewCalls()
		if pays && login {
			if opts.Pay, err = newPay(s, payURL, notifyURL, tokenStore{db, uuid.NewString()}, opts.Calls.Observe, log); err != nil {
				return err
			}
		}
		if login {
			opts.WeChat, err = wechat.New(wechat.Options{
				AppID: s.get("WECHAT_APPID"), Secret: s.get("WECHAT_SECRET"), APIURL: apiURL, ClassicToken: classic,
				Tokens: tokenStore{db, uuid.NewString()}, Observe: opts.Calls.Observe, Logger: log,
			})
		}
		if err == nil && mp && s.get("WECHAT_MP_SECRET") != "" {
			opts.MPClient, err = wechat.New(wechat.Options{
				AppID: opts.MPAppID, Secret: s.get("WECHAT_MP_SECRET"), APIURL: apiURL, ClassicToken: classic,
				Tokens: tokenStore{db, uuid.NewString()}, Observe: opts.Calls.Observe, Logger: log,
			})
		}
		return err
	}
}

// paySettings are our names for the fields that package wechat complains of.
var paySettings = map[string]string{
	"": "PAY_MCHID", "MchID": "PAY_MCHID", "AppID": "WECHAT_APPID", "APIURL": "WECHAT_PAY_URL", "NotifyURL": "PAY_NOTIFY_URL",
	"APIv3Key": "PAY_V3_KEY", "CertSerial": "PAY_CERT_SERIAL", "PrivateKeyPEM": "PAY_PRIVATE_KEY", "PublicKeyID": "PAY_PUBLIC_KEY_ID",
	"PublicKeyPEM": "PAY_PUBLIC_KEY", "Key": "PAY_V2_KEY", "SignType": "PAY_V2_SIGN_TYPE", "CertPEM": "PAY_CERT", "KeyPEM": "PAY_PRIVATE_KEY",
}

// newPay makes the version that the settings name.
func newPay(s *Settings, apiURL, notifyURL string, tokens wechat.TokenStore, observe func(wechat.Call), log *slog.Logger) (wechat.Pay, error) {
	if s.get("PAY_VERSION") == "v2" {
		return wechat.NewPayV2(wechat.PayV2Options{
			AppID: s.get("WECHAT_APPID"), MchID: s.get("PAY_MCHID"), APIURL: apiURL, NotifyURL: notifyURL,
			Key: s.get("PAY_V2_KEY"), SignType: s.get("PAY_V2_SIGN_TYPE"),
			CertPEM: s.pem("PAY_CERT"), KeyPEM: s.pem("PAY_PRIVATE_KEY"), Observe: observe, Logger: log,
		})
	}
	return wechat.NewPayV3(wechat.PayV3Options{
		AppID: s.get("WECHAT_APPID"), MchID: s.get("PAY_MCHID"), APIURL: apiURL, NotifyURL: notifyURL,
		APIv3Key: s.get("PAY_V3_KEY"), CertSerial: s.get("PAY_CERT_SERIAL"), PrivateKeyPEM: s.pem("PAY_PRIVATE_KEY"),
		PublicKeyID: s.get("PAY_PUBLIC_KEY_ID"), PublicKeyPEM: s.pem("PAY_PUBLIC_KEY"), Tokens: tokens, Observe: observe, Logger: log,
	})
}

// restoreBroker reads the streams of the last clean stop and removes the file, so that a crash later
// begins new Epochs instead of going back in time.
func restoreBroker(path string, log *slog.Logger) (*hub.MemoryBroker, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return hub.NewMemoryBroker(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("rooms' streams: %w", err)
	}
	defer f.Close()
	b, err := hub.NewMemoryBroker(f)
	if err != nil {
		log.Error("the rooms' streams of the last stop cannot be read: rooms start with new epochs", "file", path, "err", err)
		b, err = hub.NewMemoryBroker(nil)
	}
	if err != nil {
		return nil, err
	}
	return b, os.Remove(path)
}

// saveBroker keeps a memory Broker's streams. It writes beside the file first, so that a kill in between leaves
// no half of it.
func (a *app) saveBroker() error {
	memory, ok := a.broker.(*hub.MemoryBroker)
	if !ok {
		return a.broker.Close()
	}
	f, err := os.CreateTemp(filepath.Dir(a.streams), "rooms-*.tmp")
	if err != nil {
		return err
	}
	err = errors.Join(memory.Save(f), f.Sync(), f.Close(), memory.Close())
	if err == nil {
		err = os.Rename(f.Name(), a.streams)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// run serves on l until ctx ends, then stops everything in reverse order.
func (a *app) run(ctx context.Context, l net.Listener) error {
	var handler http.Handler = a.web.Handler()
	if a.extra != nil {
		a.extra.Handle("/", handler)
		handler = a.extra
	}
	a.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: a.patience, // a slow header holds no connection longer
		ReadTimeout:       20 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx until the sockets are gone
	defer stopWork()
	var g errgroup.Group
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	start := func(name string, f func() error) {
		g.Go(func() error {
			err := f()
			if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, http.ErrServerClosed) {
				err = fmt.Errorf("%s: %w", name, err)
				fail(err)
				return err
			}
			return nil
		})
	}
	start("web", func() error { return a.web.Run(work) })
	start("jobs", func() error { return a.jobs.Run(work) })
	start("memory", func() error { return tendMemory(work) })
	a.front = a.web.Front(l, handler, a.patience, a.log)
	start("http", func() error { return a.http.Serve(a.front) })
	<-failed.Done()
	a.log.Info("stopping", "sockets", a.hub.Stats().Sockets, "drain", a.drain)
	return errors.Join(a.stop(stopWork), g.Wait(), a.closeStore())
}

// stop lets balancers see that this node is not ready before it sends anybody away: for a fifth of the drain it goes on
// as before.
func (a *app) stop(stopWork func()) error {
	a.web.NotReady()
	notice := a.drain / 5
	time.Sleep(notice)
	ctx, cancel := context.WithTimeout(context.Background(), a.drain+5*time.Second)
	defer cancel()
	drain, cancelDrain := context.WithTimeout(ctx, cmp.Or(a.drain-notice, time.Millisecond))
	defer cancelDrain()
	err := a.hub.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // the last sockets were cut; they know how to come back
	}
	err = errors.Join(err, a.http.Shutdown(ctx))
	a.front.Wait()
	stopWork()
	return errors.Join(err, a.saveBroker())
}

// discard takes back what newApp built before it failed.
func (a *app) discard() (err error) {
	if a == nil {
		return nil
	}
	if a.hub != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err = a.hub.Shutdown(ctx)
	}
	if a.broker != nil {
		err = errors.Join(err, a.broker.Close())
	}
	return errors.Join(err, a.closeStore())
}

func (a *app) closeStore() error {
	if a == nil || a.db == nil {
		return nil
	}
	return a.db.Close()
}

// tokenStore lets the platform's access tokens live in the store, sealed and leased.
type tokenStore struct {
	db   *store.DB
	node string
}

func (t tokenStore) Load(ctx context.Context, name string) (string, time.Time, error) {
	token, at, err := t.db.PlatformToken(ctx, name)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrSealed) { // sealed by a key that is gone: fetch anew
		return "", time.Time{}, nil
	}
	return token, at, err
}

func (t tokenStore) Save(ctx context.Context, name, token string, expiresAt time.Time) error {
	return t.db.SetPlatformToken(ctx, name, token, expiresAt)
}

func (t tokenStore) Lock(ctx context.Context, name string, ttl time.Duration) (bool, func(), error) {
	ok, err := t.db.Lease(ctx, name, t.node, ttl)
	if !ok || err != nil {
		return false, func() {}, err
	}
	return true, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = t.db.Unlease(ctx, name, t.node) // it runs out by itself
	}, nil
}

// Package web is the outside of wxhub: routes, tokens, the socket's door, WeChat's callbacks and the admin API.
//
// Identity comes from a token or an API key, never from a parameter. Every refusal has the envelope of the outside
// contract. Dependencies: hub, wechat, store. No SQL text, no Redis command and no WeChat cryptography in here.
package web

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"wxhub/hub"
	"wxhub/store"
	"wxhub/web/console"
	"wxhub/web/docs"
	"wxhub/web/jobs"
	"wxhub/web/phone"
	"wxhub/wechat"
)

// Options say what a Server serves. Parts that are nil are switched off: their routes answer 503 not_configured.
type Options struct {
	Hub    *hub.Hub
	Store  *store.DB
	Tokens *Tokens
	WeChat *wechat.Client
	Pay    wechat.Pay
	Push   *wechat.Receiver // mini-program message push

	MP       *wechat.Receiver // the official account's push
	MPAppID  string           // required with MP
	MPClient *wechat.Client   // of the official account; nil: nobody is asked who follows, and nobody there is answered later

	AppID, MchID   string
	PublicURL      string // callback and picture URLs begin with it; may be empty
	AdminUser      string
	AdminPassword  string            // empty: no admin login
	APIKeys        map[string]string // name → key
	TrustedProxies []netip.Prefix
	AllowedOrigins []string // "*" = any; empty: the same host
	Limits         Limits
	Always200      bool
	Products       []Product
	Hooks          []Hook          // of the shop's own system
	Fallbacks      *jobs.Fallbacks // rules by which mail is told another way; nil: none, kept in Store
	Replies        []Reply         // auto-replies to customer messages, first fitting counts
	Moderator      *Moderator      // judges what users write; nil: nothing is judged
	Demo           *Demo           // nil outside the demo
	Node, Addr     string          // what this process is called in the cluster (empty: a random name), and where it listens
	Version        string
	Calls          *Calls // what the clients above observe; nil: nothing is counted
	Logger         *slog.Logger
}

// Demo is what only the demo serves: the phone page and where the simulator is.
type Demo struct {
	SimURL        string // the simulator, as the browser reaches it
	AdminUser     string
	AdminPassword string
	Command       string // how to call this program again; empty: wxhub
}

// Server answers HTTP. Safe for concurrent use.
type Server struct {
	o         Options
	log       *slog.Logger
	api       huma.API
	handler   http.Handler
	catalogue catalogue
	till      *Till
	callbacks *callbacks
	desk      desk
	metrics   *metrics
	apiKeys   map[string][sha256.Size]byte
	admin     *adminLogin
	codes     codes
	alarms    *prometheus.CounterVec // raised, by kind
	started   time.Time
	leaving   atomic.Bool
	readiness atomic.Value              // string: what the last look at it found
	relay     atomic.Pointer[jobs.Jobs] // for its figures; nil: not told

	addresses, users, adminTries, handshakes *limiter
}

// New checks the options and builds the routes. Run keeps the server's knowledge fresh afterwards.
func New(o Options) (*Server, error) {
	if o.Hub == nil || o.Store == nil || o.Tokens == nil {
		return nil, errors.New("web: Hub, Store and Tokens are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Calls == nil {
		o.Calls = NewCalls()
	}
	if o.Node == "" {
		o.Node = uuid.NewString()
	}
	s := &Server{
		o: o, log: o.Logger, apiKeys: map[string][sha256.Size]byte{}, started: time.Now(),
		codes:      codes{drawing: map[string]int{}},
		addresses:  newLimiter(o.Limits.Address.or(100, 500)),
		users:      newLimiter(o.Limits.User.or(20, 60)),
		handshakes: newLimiter(o.Limits.Handshakes.or(2000, 2000)),
		adminTries: newLimiter(o.Limits.AdminLogin.or(5.0/60, 5)),
	}
	s.till = &Till{pay: o.Pay, db: o.Store, appID: o.AppID, hooks: o.Hooks, log: o.Logger}
	s.callbacks = newCallbacks(o, s.till)
	for name, key := range o.APIKeys {
		s.apiKeys[name] = sha256.Sum256([]byte(key))
	}
	var err error
	if err = jobs.CheckHooks(o.Hooks); err != nil {
		return nil, err
	}
	if o.MP != nil && o.MPAppID == "" {
		return nil, errors.New("web: MPAppID is required with MP")
	}
	if o.Fallbacks == nil {
		if s.o.Fallbacks, err = jobs.NewFallbacks(context.Background(), o.Store, nil); err != nil {
			return nil, err
		}
	}
	s.desk = desk{
		appID: o.AppID, mpAppID: o.MPAppID, mpAsks: o.MPClient != nil, hooks: o.Hooks, failOpen: o.Moderator != nil && o.Moderator.FailOpen,
	}
	if s.desk.rules, err = newRuleSet(o.Replies); err != nil {
		return nil, err
	}
	if s.catalogue, err = newCatalogue(o.Products); err != nil {
		return nil, err
	}
	if s.admin, err = newAdminLogin(o.AdminUser, o.AdminPassword); err != nil {
		return nil, err
	}
	if _, err = o.Tokens.learn(context.Background()); err != nil {
		return nil, err
	}
	s.watchAlarms()
	s.metrics = newMetrics(s)
	s.handler = s.routes()
	return s, nil
}

func (s *Server) routes() http.Handler {
	r := chi.NewRouter()
	if s.o.Always200 {
		r.Use(always200)
	}
	if len(s.o.TrustedProxies) > 0 {
		r.Use(s.fromTrustedProxy)
	}
	r.Use(s.observe, s.cors, middleware.GetHead)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, &Error{Status: http.StatusNotFound, Code: "not_found"})
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
			if chi.RouteContext(r.Context()).Routes.Match(chi.NewRouteContext(), method, r.URL.Path) {
				w.Header().Add("Allow", method)
			}
		}
		s.fail(w, r, &Error{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed"})
	})

	r.Group(func(r chi.Router) {
		r.Use(s.identify, anyCase)
		s.api = newAPI(r, s.o.Version)
		s.routeLogin()
		s.routePeople()
		s.routeShop()
		s.routeOrders()
		s.routeRefunds()
		s.routeCode()
		s.routeAdmin()
		s.routeStaff()
		s.routeInbox()
		s.routeMessages()
		s.routeFallbacks()
		s.routeAlarms()
		s.routeEvents()
		s.routeShipping()
		s.routeBills()
		s.routeLinks()
		s.routeAccessToken()
	})
	r.Get("/ws", s.openSocket)
	r.HandleFunc("/socket.io/", s.openSocketIO) // whatever the method: its refusals are Engine.IO's own
	r.HandleFunc("/socket.io", s.openSocketIO)

	mini := &door{callbacks: s.callbacks, name: "push", receiver: s.o.Push, record: s.desk.recorded(miniAccount, s.desk.miniPush)}
	mp := &door{callbacks: s.callbacks, name: "mp", receiver: s.o.MP, record: s.desk.recorded(mpAccount, s.desk.mpPush)}
	for path, d := range map[string]*door{"/wechat/push": mini, "/message/check": mini, "/wechat/mp": mp} {
		r.Get(path, d.check)
		r.Post(path, d.take)
	}
	r.Post("/wechat/pay/notify", s.callbacks.receivePayment)
	r.Post("/wechat/pay/refund", s.callbacks.receiveRefund)
	r.Get(pictures+"{picture}", s.servePicture)
	r.Get(chatPictures+"{picture}", s.servePicture)

	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") })
	r.Get("/readyz", s.ready)
	r.Handle("/metrics", s.metrics.handler())
	r.With(s.identify).Handle("/debug/pprof/*", s.pprof())
	r.With(s.identify).Get("/debug/consistency", s.consistency)

	documents := docs.Handler()
	r.Handle("/api/asyncapi.json", documents)
	r.Handle("/docs", documents)
	r.Handle("/docs/*", documents)
	desk := console.Handler()
	r.Handle("/console", desk)
	r.Handle("/console/*", desk)
	door := docs.DoorInfo{Version: s.o.Version, AdminUser: s.o.AdminUser}
	if d := s.o.Demo; d != nil {
		page := phone.Handler(phone.Config{SimURL: d.SimURL})
		r.Handle("/phone", page)
		r.Handle("/phone/*", page)
		door.Demo, door.PhoneURL, door.SimURL, door.Command = true, "/phone/", d.SimURL, d.Command
	}
	r.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		seen := door
		seen.SimURL = phone.Seen(r, door.SimURL)
		docs.Door(seen).ServeHTTP(w, r)
	})
	return r
}

// fromTrustedProxy finds the client's address in X-Forwarded-For: from right to left, as long as those who wrote it
// down, the peer first, are ours.
func (s *Server) fromTrustedProxy(next http.Handler) http.Handler {
	var networks []string
	for _, p := range s.o.TrustedProxies {
		networks = append(networks, p.String())
	}
	return middleware.ClientIPFromXFF(networks...)(next)
}

// Measure lets /metrics show the relay's figures.
func (s *Server) Measure(j *jobs.Jobs) { s.relay.Store(j) }

// Handler serves every route.
func (s *Server) Handler() http.Handler { return s.handler }

const (
	learnEvery = 500 * time.Millisecond // a revocation reaches every node within a second
	sweepEvery = time.Minute
)

// Run keeps the server's background knowledge fresh (revoked tokens, limiter sweeps) until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	learn, sweep := time.NewTicker(learnEvery), time.NewTicker(sweepEvery)
	alive := time.NewTicker(nodeEvery)
	defer alive.Stop()
	var before hub.Stats
	s.announceNode(ctx, &before, 0)
	defer func() {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.o.Store.RemoveNode(leaving, s.o.Node) // unheard of for some seconds, it is not listed anyway
	}()
	defer learn.Stop()
	defer sweep.Stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	calls.Go(func() { s.raiseCalls(ctx) })
	failing := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-learn.C:
			looking, cancel := context.WithTimeout(ctx, 5*time.Second)
			fresh, err := s.o.Tokens.learn(looking)
			cancel()
			if (err != nil) != failing && ctx.Err() == nil {
				failing = err != nil
				s.log.Warn("revoked tokens: the store's answers changed", "err", err)
			}
			for _, id := range fresh.sessions {
				s.o.Hub.Disconnect(hub.Target{Session: id}, hub.DisconnectToken)
			}
			for _, user := range fresh.blocked {
				s.o.Hub.Disconnect(hub.Target{User: user}, hub.DisconnectBlocked)
			}
			for _, user := range fresh.erased {
				s.o.Hub.Disconnect(hub.Target{User: user}, hub.DisconnectToken)
			}
		case <-alive.C:
			telling, cancel := context.WithTimeout(ctx, nodeEvery)
			s.announceNode(telling, &before, nodeEvery)
			cancel()
		case <-sweep.C:
			s.o.Tokens.forget()
			for _, l := range []*limiter{s.addresses, s.users, s.adminTries, s.handshakes} {
				l.sweep()
			}
		}
	}
}

// NotReady turns readiness red before a stop.
func (s *Server) NotReady() { s.leaving.Store(true) }

// ready tells a balancer whether to send traffic here: not while this node stops, its store cannot be written, or its
// rooms cannot be heard. Sockets that are open stay; who looks after a cluster in which no node is ready should go on
// sending people to those that are alive (/healthz): logins, payments and mail need no Redis.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	word, err := "ready", error(nil)
	if s.leaving.Load() {
		word = "stopping"
	} else if err = s.o.Store.Ping(ctx); err != nil {
		word = "store"
	} else if err = s.o.Hub.Healthy(); err != nil {
		word = "broker"
	}
	if before, _ := s.readiness.Swap(word).(string); before != word { // a balancer asks every second
		if err != nil {
			s.log.Error("not ready", "because", word, "err", err)
		} else if before != "" {
			s.log.Info("readiness changed", "from", before, "to", word)
		}
	}
	if word != "ready" {
		plain(w, http.StatusServiceUnavailable, word+"\n")
		return
	}
	plain(w, http.StatusOK, "ready\n")
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

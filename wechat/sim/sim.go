// Package sim is WeChat as a server: what api.weixin.qq.com and api.mch.weixin.qq.com answer to a
// mini-program's back end, and what WeChat itself sends to it, for demo, tests and load.
//
// Strictness: requests are checked as the platform checks them (codes once, tokens that expire,
// signatures over the raw bytes, quotas), so that a mistake shows here and not in production.
// Control: everything under /sim plays the people with their phones; it is for loopback use and asks for no password.
// Concurrency: safe for concurrent use; one mutex guards all state and is never held during network traffic or RSA.
// Lifecycle: Close ends retries and waits for every goroutine that the simulator started.
// Limits: every list keeps its newest 1,000 entries; 100,000 people; 20,000 orders.
// Dependencies: the standard library and a QR encoder; never wechat, hub, store or web, because two programs
// that share their signing code would agree on the same mistake.
package sim

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Options say whose WeChat this is and where its callbacks go. Credentials are required.
type Options struct {
	Credentials

	PushURL         string              // the hub's message push address; empty: pushing is an error of the control side
	PushMode        string              // "plain", "compatible" or "safe"; empty: safe with an AES key, else plain
	PushFormat      string              // "json" or "xml"; empty: json
	MPURL           string              // the hub's address for pushes of the official account; empty: such pushing is an error of the control side
	MPMode          string              // as PushMode; empty: safe with MPAESKey, else plain
	MPFormat        string              // empty: xml, as official accounts push
	NotifyURL       string              // replaces the notify_url of every order when set
	Pages           []string            // pages of the released mini-program, for QR codes; none: every well-formed one is there
	Templates       map[string][]string // subscribe and template messages: the fields of each template; none: every well-formed id is one
	Reminders       bool                // late shipping is reminded of by itself
	Unmanaged       bool                // the platform does not manage shipping of this mini-program
	Unreleased      bool                // the mini-program has no released version
	MuteNotify      bool                // no notify of a payment or refund ever comes
	Merchant        string              // name on the pay sheet; empty: 示例小店
	KeyMode         string              // "public-key" (and empty), "certificate" or "mixed": what WeChat Pay signs with
	Faults          []Fault             // that wait from the start
	EarlyBills      bool                // bills of today are there at once, not on the next day after ten
	NeedCertificate bool                // v2 refunds want the client certificate even when no TLS is spoken, and so fail there
	TimeScale       float64             // 1 (and 0) = the platform's retry times; 60 = retries 60 times faster
	Logger          *slog.Logger        // nil: nothing is logged
	Now             func() time.Time
	HTTP            *http.Client // sends pushes and notifies; nil: an own one. Redirects are never followed
}

// Sim is one running WeChat for one mini-program, one official account and one merchant.
type Sim struct {
	opts     Options         // fixed
	merchant *rsa.PublicKey  // fixed; what the merchant uploaded
	public   platformKey     // fixed; WeChat Pay's own
	mini     *account        // fixed but for its tokens
	mp       *account        // the same of the official account; nil without one
	client   *http.Client    // fixed
	routes   *http.ServeMux  // fixed
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	tasks    sync.WaitGroup // ladders; added to under mu while !closed

	mu           sync.Mutex // guards what follows
	closed       bool
	ladders      int              // running now; at most maxLadders
	users        map[string]*user // by openid
	names        []*user          // the same, oldest first
	codes        map[string]*loginCode
	codeLine     []*loginCode     // the same, oldest first
	fans         map[string]*user // who has an openid of the official account, by it
	drawn        window           // getwxacodeunlimit of this minute
	limited      int              // getwxacode and createwxaqrcode so far
	mediaChecked window           // media_check_async of this minute
	linkSecond   window           // generatescheme and generate_urllink
	linkDay      window
	checked      window             // msg_sec_check of this minute
	orders       map[string]*order  // by out_trade_no
	prepays      map[string]*order  // by prepay_id, also former ones of the same order
	paid         map[string]*order  // by transaction_id
	refunds      map[string]*refund // by out_refund_no
	line         []*order           // by age
	nonces       map[string]time.Time
	media        map[string]*medium
	lastItem     int64     // number of the newest entry of any list
	managed      bool      // shipping is managed by the platform
	accessTold   time.Time // when the shop was last reminded to use shipping
	lastID       int64     // MsgId and the serial of transactions: always grows
	faults       []*Fault
	mediaLine    []*medium                  // the same as media, oldest first
	mediaSize    int                        // bytes of all
	held         map[string][]chan struct{} // callbacks that wait to be overtaken, by kind
	keyMode      string                     // by what answers and callbacks are signed
	keyShare     int64                      // mixed: percent of callbacks that the public key signs
	callbacks    int64                      // signed so far
	certs        []platformKey              // oldest first; the last one signs
	bills        []bill                     // oldest first
	exchanges    []*Exchange                // by number
	exchangeSize int                        // bytes
	calls        recent[Call]
	sent         recent[SentMessage]
	said         []saidLine // of all conversations, oldest first
	pushes       recent[Push]
	notifies     recent[Notify]
}

const (
	maxUsers   = 100_000
	maxOrders  = 20_000
	maxCodes   = 200_000
	maxNonces  = 200_000
	maxLadders = 10_000
	keep       = 1000            // entries of each list that is only looked at
	tryLimit   = 5 * time.Second // one push or notify; the platform's own limit
	maxBody    = 64 << 10        // bytes of one request
	maxAnswer  = 64 << 10        // bytes read of an answer to a push or notify
)

// New checks the credentials and returns a simulator ready to serve. Errors name the bad option.
func New(opts Options) (*Sim, error) {
	if err := opts.complete(); err != nil {
		return nil, fmt.Errorf("sim: %w", err)
	}
	s := &Sim{
		opts:    opts,
		users:   map[string]*user{},
		fans:    map[string]*user{},
		codes:   map[string]*loginCode{},
		orders:  map[string]*order{},
		prepays: map[string]*order{},
		paid:    map[string]*order{},
		refunds: map[string]*refund{},
		nonces:  map[string]time.Time{},
		held:    map[string][]chan struct{}{},
		media:   map[string]*medium{},
	}
	var err error
	if s.merchant, err = publicKey(opts.MerchantKeyPEM); err != nil {
		return nil, fmt.Errorf("sim: MerchantKeyPEM: %w", err)
	}
	if err = s.loadKeys(); err != nil {
		return nil, fmt.Errorf("sim: %w", err)
	}
	if s.mini, s.mp, err = opts.accounts(); err != nil {
		return nil, fmt.Errorf("sim: %w", err)
	}
	s.client = senderOf(opts.HTTP)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.managed = !opts.Unmanaged
	for _, f := range opts.Faults {
		if _, err := s.addFault(f); err != nil {
			return nil, fmt.Errorf("sim: Faults: %w", err)
		}
	}
	s.routes = s.mux()
	if opts.Reminders && opts.PushURL != "" {
		s.tasks.Go(func() { s.watchShipping(s.ctx) })
	}
	return s, nil
}

// complete fills what was left out and refuses what cannot work.
func (o *Options) complete() error {
	switch {
	case o.AppID == "" || o.Secret == "":
		return errors.New("AppID and Secret are required")
	case o.PushToken == "":
		return errors.New("PushToken is required: a signature made with an empty one proves nothing")
	case len(o.APIv3Key) != 32:
		return fmt.Errorf("APIv3Key has %d bytes, want 32", len(o.APIv3Key))
	case o.MchID == "" || o.CertSerial == "" || o.PublicKeyID == "":
		return errors.New("MchID, CertSerial and PublicKeyID are required")
	case o.MPAppID != "" && (o.MPAppID == o.AppID || o.MPSecret == "" || o.MPToken == ""):
		return errors.New("the official account needs an MPAppID of its own, MPSecret and MPToken")
	case o.V2Key != "" && len(o.V2Key) != 32:
		return fmt.Errorf("V2Key has %d bytes, want 32", len(o.V2Key))
	case o.KeyMode != "" && !slices.Contains(keyModes, o.KeyMode):
		return errors.New("KeyMode is not public-key, certificate or mixed")
	case o.TimeScale < 0:
		return errors.New("TimeScale is negative")
	}
	for name, raw := range map[string]string{"PushURL": o.PushURL, "MPURL": o.MPURL, "NotifyURL": o.NotifyURL} {
		if u, err := url.Parse(raw); raw != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
			return fmt.Errorf("%s is not an http or https address", name)
		}
	}
	if o.Merchant == "" {
		o.Merchant = "示例小店"
	}
	if o.KeyMode == "" {
		o.KeyMode = keyModePublic
	}
	if o.TimeScale == 0 {
		o.TimeScale = 1
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// senderOf returns a client that reports a redirect as an answer, as WeChat does.
func senderOf(given *http.Client) *http.Client {
	c := &http.Client{}
	if given != nil {
		*c = *given
	} else {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 64
		c.Transport = t
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// Close ends every retry, long poll and running callback and waits for what the simulator started.
// Requests that come later are answered with 503. It may be called more than once; the error is always nil.
func (s *Sim) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.tasks.Wait()
	if s.opts.HTTP == nil {
		s.client.CloseIdleConnections()
	}
	return nil
}

// start runs f on its own goroutine until it returns; Close waits for it. It reports false when
// the simulator is closed or has too many ladders running.
func (s *Sim) start(f func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.startLocked(f)
}

// startLocked is start for who holds s.mu.
func (s *Sim) startLocked(f func(context.Context)) bool {
	if s.closed || s.ladders >= maxLadders {
		return false
	}
	s.ladders++
	s.tasks.Go(func() {
		f(s.ctx)
		s.mu.Lock()
		s.ladders--
		s.mu.Unlock()
	})
	return true
}

// during returns a context that ends with the request or with the simulator.
func (s *Sim) during(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// nextEntry numbers the entries of all lists. Needs s.mu.
func (s *Sim) nextEntry() int64 {
	s.lastItem++
	return s.lastItem
}

// recent is a list that forgets its oldest entries. Guarded by Sim.mu.
type recent[T any] struct {
	items []T
	seen  int // ever
}

func (l *recent[T]) add(v T) {
	if len(l.items) >= 2*keep {
		l.items = append(l.items[:0:0], l.items[keep:]...)
	}
	l.items = append(l.items, v)
	l.seen++
}

// list returns a copy of the newest entries, at most so many, oldest first, never nil.
func (l *recent[T]) list(most int) []T {
	from := max(0, len(l.items)-min(most, keep))
	return append([]T{}, l.items[from:]...)
}

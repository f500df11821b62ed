package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	redisPrefix = "wxhub:"
	partitions  = 64 // of rooms; every node must agree. A partition's keys have one hash tag
)

// RedisOptions say which Redis joins the nodes.
type RedisOptions struct {
	// URL is redis://USER:PASSWORD@HOST:PORT/DB, or rediss:// for TLS. Several addresses (HOST:PORT,HOST:PORT)
	// are a Redis Cluster, with ?master_name=NAME the Sentinels of that master. Passwords are percent-encoded;
	// ?sentinel_username= and ?sentinel_password= are the Sentinels' own. An ACL user needs ~wxhub:* &wxhub:*.
	// With rediss:// each server's certificate must be good for the address that it is dialled by; ?ca=FILE (PEM) is who
	// signed it, when no public authority did.
	URL    string
	Logger *slog.Logger // nil: silent
}

// A RedisBroker keeps the streams of rooms in Redis (7.0 or later; standalone, Sentinel or Cluster) and joins
// the nodes that use the same one. It is as durable as that Redis is. It implements Cluster.
//
// What a master had accepted and its successor never heard of is noticed by the nodes that had members in the
// room: the room gets a new Epoch. Nobody can notice it of a room that nobody was in.
type RedisBroker struct {
	client  redis.UniversalClient
	sharded bool // Redis Cluster
	node    string
	log     *slog.Logger
	parts   [partitions]partition
	clock   redisClock

	posts   []publisher // one, or one a partition
	reads   []reader    // likewise
	deliver atomic.Pointer[func(room, epoch string, m Message)]
	tell    atomic.Pointer[Neighbours]
	awayTo  atomic.Int64 // Unix ns until which nothing is tried
	orders  orderBook
	outage  outage
	shared  atomic.Pointer[deadline]

	linesMu sync.Mutex
	lines   [partitions]*line // Cluster: by partition, from the first room on; else only the first

	ctx    context.Context
	cancel context.CancelFunc
	life   sync.RWMutex // guards closed, and tasks against growing after it
	closed bool
	tasks  sync.WaitGroup
}

// redisClock holds what tests make shorter. A subscription that has died is found and replaced within lost and
// probe together: below the 5 s within which mail has to come another way.
type redisClock struct {
	patience time.Duration // the longest that a caller waits for Redis
	probe    time.Duration // between two round trips over a subscription
	lost     time.Duration // a subscription whose round trips stay away that long is replaced
	refresh  time.Duration // of this node's sign of life
	death    time.Duration // a node without a sign of life for that long is swept
}

var defaultRedisClock = redisClock{patience: time.Second, probe: time.Second, lost: 3500 * time.Millisecond, refresh: 3 * time.Second, death: 10 * time.Second}

// A partition is a share of the rooms whose keys live on one node of a Redis Cluster.
type partition struct{ prefix string }

// NewRedisBroker joins the nodes at o.URL. It fails when the URL is wrong; a Redis that does not answer is
// waited for at most a second, and afterwards Healthy says so. Close ends it.
func NewRedisBroker(ctx context.Context, o RedisOptions) (*RedisBroker, error) {
	return newRedisBroker(ctx, o, defaultRedisClock)
}

func newRedisBroker(ctx context.Context, o RedisOptions, clock redisClock) (*RedisBroker, error) {
	u, ca, err := parseRedisURL(o.URL)
	if err != nil {
		return nil, err
	}
	if ca != "" {
		if u.TLSConfig.RootCAs, err = readAuthorities(ca); err != nil {
			return nil, err
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	quietOnce.Do(quiet)
	u.Protocol = 2
	u.DisableIdentity = true
	u.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	u.MaxRetries = -1 // a publish that may have happened is not repeated behind the caller's back
	u.DialerRetries = 1
	u.ContextTimeoutEnabled = true
	u.DialTimeout, u.ReadTimeout, u.WriteTimeout, u.PoolTimeout = clock.patience, clock.patience, clock.patience, clock.patience
	b := &RedisBroker{client: redis.NewUniversalClient(u), log: consequences(o.Logger), outage: outage{log: o.Logger}, node: newEpoch(), clock: clock}
	_, b.sharded = b.client.(*redis.ClusterClient)
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for i, tag := range partitionTags() {
		b.parts[i].prefix = redisPrefix + "{" + tag + "}:"
	}
	each := 1
	if b.sharded {
		each = partitions
	}
	b.posts, b.reads = make([]publisher, each), make([]reader, each)
	for i := range each {
		b.posts[i].broker, b.reads[i].broker = b, b
	}
	b.orders.kick = make(chan struct{}, 1)
	l := b.line(ordersRoom)
	ctx, cancel := context.WithTimeout(ctx, clock.patience)
	defer cancel()
	l.firstTrip(ctx) // one that does not come has been told
	return b, nil
}

var quietOnce sync.Once

// quiet keeps the client from writing to standard error: what goes wrong reaches us as errors.
func quiet() { redis.SetLogger(new(logging.VoidLogger)) }

// Node implements Cluster.
func (b *RedisBroker) Node() string { return b.node }

// Healthy implements Cluster: every subscription has carried a round trip within the last seconds.
func (b *RedisBroker) Healthy() error {
	b.linesMu.Lock()
	lines := b.lines
	b.linesMu.Unlock()
	for _, l := range lines {
		if l == nil {
			continue
		}
		if err := l.healthy(); err != nil {
			return err
		}
	}
	return nil
}

// Close implements Broker. It waits for its goroutines.
func (b *RedisBroker) Close() error {
	b.life.Lock()
	first := !b.closed
	b.closed = true
	b.life.Unlock()
	if !first {
		return nil
	}
	if b.tell.Load() != nil {
		b.resign()
	}
	return b.end()
}

// end lets everything go as it stands.
func (b *RedisBroker) end() error {
	b.life.Lock()
	b.closed = true
	b.life.Unlock()
	b.cancel()
	b.linesMu.Lock()
	for _, l := range b.lines {
		if l != nil {
			l.hangUp()
		}
	}
	b.linesMu.Unlock()
	b.tasks.Wait()
	if err := b.client.Close(); err != nil {
		return fmt.Errorf("hub: redis: close: %w", err)
	}
	return nil
}

// start runs f in a goroutine that Close waits for; false when it is too late.
func (b *RedisBroker) start(f func()) bool {
	b.life.RLock()
	defer b.life.RUnlock()
	if b.closed {
		return false
	}
	b.tasks.Go(f)
	return true
}

// sleep waits for d; false when the broker ends meanwhile.
func (b *RedisBroker) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-b.ctx.Done():
		return false
	}
}

// within bounds what a caller waits for Redis.
func (b *RedisBroker) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.clock.patience)
}

// soon is within for what is under way to Redis: one context for all that begins within a tenth of patience, so that a
// publish sets no timer of its own.
func (b *RedisBroker) soon() context.Context {
	now := time.Now().UnixNano()
	if d := b.shared.Load(); d != nil && now < d.renewAt {
		return d
	}
	ctx, cancel := context.WithTimeout(b.ctx, b.clock.patience)
	context.AfterFunc(ctx, cancel)
	d := &deadline{ctx, now + int64(b.clock.patience/10)}
	b.shared.Store(d)
	return d
}

func partitionOf(room string) int { return int(crc32.ChecksumIEEE([]byte(room)) % partitions) }

func (b *RedisBroker) part(room string) partition { return b.parts[partitionOf(room)] }

func (p partition) stream(room string) string         { return p.prefix + "s:" + room }
func (p partition) meta(room string) string           { return p.prefix + "m:" + room }
func (p partition) idempotent(room, id string) string { return p.prefix + "i:" + room + "/" + id }

// channel is where the room is announced. On one Redis every room has its own, so that a node hears only what
// its sockets need, however many nodes there are: a hundred thousand rooms are subscribed to in 0.8 s and take
// 220 bytes of Redis each (measured, 2 cores), and a node has no more of them than its sockets are in. On a
// Cluster a connection serves one slot, so a node hears the partitions that its rooms are in, over one
// connection each.
func (b *RedisBroker) channel(room string) string {
	if b.sharded {
		return b.part(room).prefix + "r"
	}
	return redisPrefix + "r:" + room
}

// partitionTags are hash tags whose slots are spread evenly over a Redis Cluster, the same on every node.
func partitionTags() (tags [partitions]string) {
	const slots = 16384
	for n, left := 0, partitions; left > 0; n++ {
		tag := strconv.Itoa(n)
		if i := int(crc16(tag)) % slots * partitions / slots; tags[i] == "" {
			tags[i] = tag
			left--
		}
	}
	return tags
}

// crc16 is what Redis Cluster makes slots of (CRC-16/XMODEM).
func crc16(s string) (crc uint16) {
	for i := range len(s) {
		crc ^= uint16(s[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// readAuthorities reads the certificates of a PEM file.
func readAuthorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("hub: redis URL: ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("hub: redis URL: ca: no certificate in %s", file)
	}
	return pool, nil
}

// parseRedisURL reads a URL; ca is a file with the authorities to trust, or empty. Its errors quote nothing of the URL:
// there may be a password in it.
func parseRedisURL(text string) (u *redis.UniversalOptions, ca string, err error) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(text), "://")
	if !ok || scheme != "redis" && scheme != "rediss" {
		return nil, "", errors.New("hub: redis URL must begin with redis:// or rediss://")
	}
	rest = strings.ReplaceAll(rest, ","+scheme+"://", ",")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	hosts := strings.Split(rest[:end], ",")
	base, err := url.Parse(scheme + "://" + hosts[0] + rest[end:])
	if err != nil {
		return nil, "", errors.New("hub: redis URL cannot be read: percent-encode the special characters of a password")
	}
	own := base.Query()
	query := base.Query()
	for _, name := range []string{"master_name", "sentinel_username", "sentinel_password", "ca"} {
		query.Del(name)
	}
	base.RawQuery = query.Encode()
	o, err := redis.ParseURL(base.String())
	if err != nil {
		return nil, "", errors.New("hub: redis URL: the database must be a number, and of the parameters only master_name, sentinel_username, sentinel_password, ca and go-redis's own are known")
	}
	u = &redis.UniversalOptions{
		Addrs: []string{o.Addr}, DB: o.DB, Username: o.Username, Password: o.Password, ClientName: o.ClientName, PoolSize: o.PoolSize,
		MasterName: own.Get("master_name"), SentinelUsername: own.Get("sentinel_username"), SentinelPassword: own.Get("sentinel_password"),
	}
	for _, h := range hosts[1:] {
		h = strings.TrimSpace(h[strings.LastIndexByte(h, '@')+1:])
		if h == "" {
			return nil, "", errors.New("hub: redis URL has an empty address")
		}
		if !strings.Contains(h[strings.LastIndexByte(h, ']')+1:], ":") {
			h += ":6379"
		}
		u.Addrs = append(u.Addrs, h)
	}
	if scheme == "rediss" {
		u.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} // the name to verify is each address's own
	}
	if ca = own.Get("ca"); ca != "" && scheme != "rediss" {
		return nil, "", errors.New("hub: redis URL: ca goes with rediss://")
	}
	return u, ca, nil
}

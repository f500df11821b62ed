package hub

import (
	"context"
	"crypto/sha1" //nolint:gosec // how Redis names scripts
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Scripts run as one step on Redis. None uses a command newer than Redis 7.0, none a clock but Redis's own.
// A room's stream has the Offset as entry id, so that a range of Offsets is a range of ids. Its meta holds
// e (Epoch), s (Offset of the newest message) and k (how many milliseconds a message is kept).
type script struct{ text, sha string }

func newScript(text string) *script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // how Redis names scripts
	return &script{text, hex.EncodeToString(sum[:])}
}

const (
	luaNow = `
local function now()
	local t = redis.call('TIME')
	return t[1] * 1000 + math.floor(t[2] / 1000)
end
`
	// luaStream: open returns Epoch and head of a room, and begins another life where there is none. trim drops
	// what is too old.
	luaStream = luaNow + `
local function open(stream, meta, fresh, ttl)
	local m = redis.call('HMGET', meta, 'e', 's', 'k')
	if m[1] then return m[1], tonumber(m[2] or '0'), tonumber(m[3] or '0') end
	redis.call('HSET', meta, 'e', fresh)
	redis.call('PEXPIRE', meta, ttl)
	redis.call('DEL', stream)
	return fresh, 0, 0
end
local function trim(stream, keep, t)
	if keep <= 0 then return end
	local oldest = t - keep
	while true do
		local list = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)
		if not list[1] or tonumber(list[1][2][2]) >= oldest then return end
		list = redis.call('XRANGE', stream, '-', '+', 'COUNT', 100)
		for i, entry in ipairs(list) do
			if tonumber(entry[2][2]) >= oldest then break end
			redis.call('XDEL', stream, entry[1])
		end
	end
end
`
)

var (
	// publishScript: stream, meta, [idempotent] · room, body, fresh epoch, size, age, publish command, channel.
	publishScript = newScript(luaStream + fmt.Sprintf("local metaAge, seenAge = '%d', '%d'", metaAge.Milliseconds(), seenAge.Milliseconds()) + `
if KEYS[3] then
	local was = redis.call('GET', KEYS[3])
	if was then
		local e, s = string.match(was, '^(%S+) (%d+)$')
		return {e, tonumber(s)}
	end
end
local e, s, k = open(KEYS[1], KEYS[2], ARGV[3], metaAge)
s = redis.call('HINCRBY', KEYS[2], 's', 1)
local size, age, t = tonumber(ARGV[4]), tonumber(ARGV[5]), now()
if k ~= age then redis.call('HSET', KEYS[2], 'k', ARGV[5]) end
redis.call('PEXPIRE', KEYS[2], metaAge)
local id = string.format('%.0f', s)
if size > 0 then
	local function add()
		return redis.pcall('XADD', KEYS[1], 'MAXLEN', '=', ARGV[4], id .. '-0', 't', string.format('%.0f', t), 'm', ARGV[2])
	end
	local done = add()
	if done.err and string.find(done.err, 'The ID', 1, true) then -- the stream is ahead of its meta
		e = ARGV[3]
		redis.call('HSET', KEYS[2], 'e', e)
		redis.call('DEL', KEYS[1])
		done = add()
	end
	if done.err then
		redis.call('HINCRBY', KEYS[2], 's', -1)
		return done
	end
	if s % 16 == 0 then trim(KEYS[1], age, t) end -- whoever reads trims too
	if age > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[5]) else redis.call('PEXPIRE', KEYS[1], metaAge) end
else
	redis.call('DEL', KEYS[1])
end
if KEYS[3] then redis.call('SET', KEYS[3], e .. ' ' .. id, 'PX', seenAge) end
redis.call(ARGV[6], ARGV[7], e .. ' ' .. id .. ' ' .. ARGV[1] .. ' ' .. ARGV[2])
return {e, s}
`)

	// headScript: stream, meta · fresh epoch, ttl of an empty room's meta, ttl of meta.
	headScript = newScript(luaStream + `
local e, s = open(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
local ttl = ARGV[2]
if s > 0 then ttl = ARGV[3] end
if redis.call('PTTL', KEYS[2]) < ttl / 2 then redis.call('PEXPIRE', KEYS[2], ttl) end
return {e, s}
`)

	// readScript: stream, meta · fresh epoch, ttl of an empty room's meta, first id, limit, newest.
	readScript = newScript(luaStream + `
local e, s, k = open(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
trim(KEYS[1], k, now())
local first = s + 1
local list = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
if list[1] then first = tonumber(string.match(list[1][1], '^%d+')) end
list = {}
if tonumber(ARGV[4]) > 0 then
	if ARGV[5] == '1' then
		list = redis.call('XREVRANGE', KEYS[1], '+', ARGV[3], 'COUNT', ARGV[4])
	else
		list = redis.call('XRANGE', KEYS[1], ARGV[3], '+', 'COUNT', ARGV[4])
	end
end
return {e, s, first, list}
`)

	// renewScript: meta · epoch, offset, fresh epoch.
	renewScript = newScript(`
local m = redis.call('HMGET', KEYS[1], 'e', 's')
if m[1] == ARGV[1] and tonumber(m[2] or '0') < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'e', ARGV[3]) end
return 1
`)
)

// A call is one script with its keys and arguments.
type call struct {
	script *script
	keys   []string
	args   []any
}

// run runs calls in one round trip to each node of Redis. The error is that of the connection; each call's own
// is in its Cmd.
func (b *RedisBroker) run(ctx context.Context, calls []call) ([]*redis.Cmd, error) {
	pipe := b.client.Pipeline()
	cmds := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		cmds[i] = pipe.EvalSha(ctx, c.script.sha, c.keys, c.args...)
	}
	_, err := pipe.Exec(ctx)
	return cmds, b.repeatUnknown(ctx, calls, cmds, err)
}

// repeatUnknown runs with their text the calls whose scripts Redis did not know: those did nothing.
func (b *RedisBroker) repeatUnknown(ctx context.Context, calls []call, cmds []*redis.Cmd, err error) error {
	var pipe redis.Pipeliner
	for i := range cmds {
		if cmds[i] != nil && isUnknownScript(cmds[i].Err()) {
			if pipe == nil {
				pipe = b.client.Pipeline()
			}
			cmds[i] = pipe.Eval(ctx, calls[i].script.text, calls[i].keys, calls[i].args...)
		}
	}
	if pipe != nil {
		_, err = pipe.Exec(ctx)
	}
	return err
}

func isUnknownScript(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") }

// runAll is run where one failure fails all.
func (b *RedisBroker) runAll(ctx context.Context, calls []call) ([]*redis.Cmd, error) {
	if len(calls) == 0 {
		return nil, nil
	}
	ctx, cancel := b.within(ctx)
	defer cancel()
	cmds, err := b.run(ctx, calls)
	if err != nil {
		return nil, b.fault(err)
	}
	return cmds, nil
}

// fault says what an error of the client means to a caller.
func (b *RedisBroker) fault(err error) error {
	switch {
	case b.ctx.Err() != nil:
		return ErrClosed
	case isReply(err):
		return fmt.Errorf("hub: redis: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// isReply tells whether Redis itself answered with the error.
func isReply(err error) bool {
	_, ok := err.(redis.Error) //nolint:errorlint // the client returns replies as they are
	return ok
}

func position(cmd *redis.Cmd) (Position, error) {
	list, err := cmd.Slice()
	if err != nil {
		return Position{}, err
	}
	if len(list) < 2 {
		return Position{}, errBody
	}
	epoch, ok1 := list[0].(string)
	offset, ok2 := list[1].(int64)
	if !ok1 || !ok2 || offset < 0 {
		return Position{}, errBody
	}
	return Position{epoch, uint64(offset)}, nil
}

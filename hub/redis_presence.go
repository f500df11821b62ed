package hub

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Presence has, in each partition:
//
//	nodes   sorted set: node, at the time of its last sign of life
//	rooms   hash: room, number of sockets
//	n:NODE  set: rooms in which the node has recorded persons
//	u:ROOM  hash: person, sockets on all nodes; its length is the count
//	p:ROOM:NODE  hash: person, sockets on that node: what is taken back when the node dies
//	t:ROOM  set: persons whose coming was announced
//
// A node tells absolute numbers, so that a repeat changes nothing. Any living node sweeps the dead.
const recordPersons = 500 // in one call

var (
	// touchScript: nodes · node, milliseconds until death. Returns whether the node was unknown, and the dead.
	touchScript = newScript(luaNow + `
local t = now()
local new = redis.call('ZADD', KEYS[1], string.format('%.0f', t), ARGV[1])
return {new, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', t - ARGV[2]))}
`)

	// recordScript: nodes, rooms, node's rooms, persons, persons of the node, told · node, room, whole, number of
	// persons, person, sockets, …, told persons. Returns whether the node was unknown.
	recordScript = newScript(luaNow + `
local new = redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now()), ARGV[1])
local sum = 0
local function set(user, n)
	local was = tonumber(redis.call('HGET', KEYS[5], user) or '0')
	if was == n then return end
	if n > 0 then redis.call('HSET', KEYS[5], user, n) else redis.call('HDEL', KEYS[5], user) end
	if redis.call('HINCRBY', KEYS[4], user, n - was) <= 0 then redis.call('HDEL', KEYS[4], user) end
	sum = sum + n - was
end
local seen = {}
local last = 4 + 2 * ARGV[4]
for i = 5, last, 2 do
	seen[ARGV[i]] = true
	set(ARGV[i], tonumber(ARGV[i + 1]))
end
if ARGV[3] == '1' then
	for _, user in ipairs(redis.call('HKEYS', KEYS[5])) do
		if not seen[user] then set(user, 0) end
	end
end
for i = last + 1, #ARGV do redis.call('SADD', KEYS[6], ARGV[i]) end
if sum ~= 0 and redis.call('HINCRBY', KEYS[2], ARGV[2], sum) <= 0 then redis.call('HDEL', KEYS[2], ARGV[2]) end
if redis.call('EXISTS', KEYS[5]) == 1 then redis.call('SADD', KEYS[3], ARGV[2]) else redis.call('SREM', KEYS[3], ARGV[2]) end
return new
`)

	// sweepScript: nodes, rooms, node's rooms · prefix, node, milliseconds until death, most persons of a room
	// that is told. Takes back a piece. Returns whether there is more, the room, and who has gone from it.
	sweepScript = newScript(luaNow + `
local score = redis.call('ZSCORE', KEYS[1], ARGV[2])
if not score or now() - score <= tonumber(ARGV[3]) then return {0} end
local room = redis.call('SRANDMEMBER', KEYS[3])
if not room then
	redis.call('ZREM', KEYS[1], ARGV[2])
	return {0}
end
local mine, all, told = ARGV[1] .. 'p:' .. room .. ':' .. ARGV[2], ARGV[1] .. 'u:' .. room, ARGV[1] .. 't:' .. room
local list = redis.call('HSCAN', mine, 0, 'COUNT', 1000)[2]
local quiet = redis.call('HLEN', all) > tonumber(ARGV[4])
local sum, out = 0, {1, room}
for i = 1, #list, 2 do
	redis.call('HDEL', mine, list[i])
	sum = sum + list[i + 1]
	if redis.call('HINCRBY', all, list[i], -list[i + 1]) <= 0 then
		redis.call('HDEL', all, list[i])
		if redis.call('SREM', told, list[i]) == 1 and not quiet then out[#out + 1] = list[i] end
	end
end
if sum ~= 0 and redis.call('HINCRBY', KEYS[2], room, -sum) <= 0 then redis.call('HDEL', KEYS[2], room) end
if redis.call('EXISTS', mine) == 0 then redis.call('SREM', KEYS[3], room) end
return out
`)

	// settleScript: persons, told · most, users. Returns who came and who went.
	settleScript = newScript(`
local quiet = redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1])
local came, went = {}, {}
for i = 2, #ARGV do
	local here, told = redis.call('HEXISTS', KEYS[1], ARGV[i]), redis.call('SISMEMBER', KEYS[2], ARGV[i])
	if here == 1 and told == 0 and not quiet then
		redis.call('SADD', KEYS[2], ARGV[i])
		came[#came + 1] = ARGV[i]
	elseif here == 0 and told == 1 then
		redis.call('SREM', KEYS[2], ARGV[i])
		if not quiet then went[#went + 1] = ARGV[i] end
	end
end
return {came, went}
`)
)

func (p partition) nodes() string                      { return p.prefix + "nodes" }
func (p partition) rooms() string                      { return p.prefix + "rooms" }
func (p partition) roomsOf(node string) string         { return p.prefix + "n:" + node }
func (p partition) persons(room string) string         { return p.prefix + "u:" + room }
func (p partition) personsOf(room, node string) string { return p.prefix + "p:" + room + ":" + node }
func (p partition) told(room string) string            { return p.prefix + "t:" + room }

// Attach implements Cluster.
func (b *RedisBroker) Attach(tell Neighbours) {
	b.tell.Store(&tell)
	l := b.line(ordersRoom)
	name := b.channel(ordersRoom)
	l.mu.Lock()
	if l.channels[name] == nil {
		l.channels[name] = &channel{done: make(chan struct{})}
	}
	l.channels[name].wanted++
	l.changed[name] = struct{}{}
	l.mu.Unlock()
	l.nudge()
	b.start(b.obey)
	b.start(b.live)
}

// live gives signs of life and sweeps the dead until the broker ends.
func (b *RedisBroker) live() {
	for {
		if err := b.touch(); err != nil && b.ctx.Err() == nil {
			b.log.Warn("no sign of life given", "error", err)
		}
		if !b.sleep(b.clock.refresh) {
			return
		}
	}
}

func (b *RedisBroker) touch() error {
	calls := make([]call, partitions)
	for i, p := range b.parts {
		calls[i] = call{touchScript, []string{p.nodes()}, []any{b.node, b.clock.death.Milliseconds()}}
	}
	cmds, err := b.runAll(b.ctx, calls)
	if err != nil {
		return err
	}
	unknown := false
	for i, cmd := range cmds {
		list, err := cmd.Slice()
		if err != nil || len(list) != 2 {
			return b.fault(fmt.Errorf("touch: %w", err))
		}
		unknown = unknown || list[0] == int64(1)
		dead, _ := list[1].([]any)
		for _, node := range dead {
			if name, ok := node.(string); ok && name != b.node {
				if err := b.sweep(b.parts[i], name); err != nil {
					return err
				}
			}
		}
	}
	if unknown {
		b.recount()
	}
	return nil
}

// sweep takes back what a dead node recorded in a partition, and tells who is gone with it.
func (b *RedisBroker) sweep(p partition, node string) error {
	for b.ctx.Err() == nil {
		cmds, err := b.runAll(b.ctx, []call{{sweepScript, []string{p.nodes(), p.rooms(), p.roomsOf(node)},
			[]any{p.prefix, node, b.clock.death.Milliseconds(), announceMax}}})
		if err != nil {
			return err
		}
		list, err := cmds[0].Slice()
		if err != nil || len(list) < 2 {
			return err
		}
		var gone []string
		for _, user := range list[2:] {
			if name, ok := user.(string); ok {
				gone = append(gone, name)
			}
		}
		if room, ok := list[1].(string); ok && len(gone) > 0 {
			b.tell.Load().Went(room, gone)
		}
	}
	return nil
}

// resign takes this node's name off, so that nobody waits for its death. What it recorded and did not take back
// is swept by the others.
func (b *RedisBroker) resign() {
	ctx, cancel := b.within(context.Background())
	defer cancel()
	pipe := b.client.Pipeline()
	for _, p := range b.parts {
		pipe.ZAddXX(ctx, p.nodes(), redis.Z{Score: 0, Member: b.node})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		b.log.Warn("this node's presence ends by itself", "error", err)
	}
}

// Record implements Cluster.
func (b *RedisBroker) Record(ctx context.Context, list []Attendance) error {
	var calls []call
	send := func() error {
		cmds, err := b.runAll(ctx, calls)
		calls = nil
		for _, cmd := range cmds {
			if n, err := cmd.Int(); err == nil && n == 1 {
				b.recount()
				break
			}
		}
		return err
	}
	for i := range list {
		for _, c := range b.recordCalls(&list[i]) {
			if calls = append(calls, c); len(calls) == batchPosts {
				if err := send(); err != nil {
					return err
				}
			}
		}
	}
	return send()
}

// recordCalls are the calls that record one room, in parts if there are many persons.
func (b *RedisBroker) recordCalls(a *Attendance) []call {
	p := b.part(a.Room)
	keys := []string{p.nodes(), p.rooms(), p.roomsOf(b.node), p.persons(a.Room), p.personsOf(a.Room, b.node), p.told(a.Room)}
	var calls []call
	whole := 0
	if a.Whole { // in one call, however many: it takes back what is not named
		whole = 1
	}
	args := []any{b.node, a.Room, whole, 0}
	n := 0
	flush := func(told []string) {
		args[3] = n
		for _, user := range told {
			args = append(args, user)
		}
		calls = append(calls, call{recordScript, keys, args})
		args, n = []any{b.node, a.Room, 0, 0}, 0
	}
	for user, sockets := range a.Sockets {
		args = append(args, user, strconv.Itoa(sockets))
		if n++; n == recordPersons && !a.Whole {
			flush(nil)
		}
	}
	if n > 0 || a.Whole {
		flush(a.Told)
	}
	return calls
}

// Recorded implements Cluster.
func (b *RedisBroker) Recorded(ctx context.Context) ([]string, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	pipe := b.client.Pipeline()
	cmds := make([]*redis.StringSliceCmd, partitions)
	for i, p := range b.parts {
		cmds[i] = pipe.SMembers(ctx, p.roomsOf(b.node))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, b.fault(err)
	}
	var rooms []string
	for _, cmd := range cmds {
		rooms = append(rooms, cmd.Val()...)
	}
	return rooms, nil
}

// Settle implements Cluster.
func (b *RedisBroker) Settle(ctx context.Context, room string, users []string, most int) (came, went []string, err error) {
	args := make([]any, 1, len(users)+1)
	args[0] = most
	for _, user := range users {
		args = append(args, user)
	}
	p := b.part(room)
	cmds, err := b.runAll(ctx, []call{{settleScript, []string{p.persons(room), p.told(room)}, args}})
	if err != nil {
		return nil, nil, err
	}
	list, err := cmds[0].Slice()
	if err != nil || len(list) != 2 {
		return nil, nil, b.fault(fmt.Errorf("settle: %w", err))
	}
	for i, users := range []*[]string{&came, &went} {
		some, _ := list[i].([]any)
		for _, user := range some {
			if name, ok := user.(string); ok {
				*users = append(*users, name)
			}
		}
	}
	return came, went, nil
}

// Present implements Cluster.
func (b *RedisBroker) Present(ctx context.Context, room string) (map[string]int, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	all, err := b.client.HGetAll(ctx, b.part(room).persons(room)).Result()
	if err != nil {
		return nil, b.fault(err)
	}
	counts := make(map[string]int, len(all))
	for user, n := range all {
		if counts[user], err = strconv.Atoi(n); err != nil {
			return nil, fmt.Errorf("hub: redis: presence in %s: %w", room, err)
		}
	}
	return counts, nil
}

// PresentCount implements Cluster.
func (b *RedisBroker) PresentCount(ctx context.Context, room string) (int, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	n, err := b.client.HLen(ctx, b.part(room).persons(room)).Result()
	if err != nil {
		return 0, b.fault(err)
	}
	return int(n), nil
}

// Occupied implements Cluster.
func (b *RedisBroker) Occupied(ctx context.Context) ([]RoomInfo, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	pipe := b.client.Pipeline()
	cmds := make([]*redis.MapStringStringCmd, partitions)
	for i, p := range b.parts {
		cmds[i] = pipe.HGetAll(ctx, p.rooms())
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, b.fault(err)
	}
	var list []RoomInfo
	var persons []*redis.IntCmd
	pipe = b.client.Pipeline()
	for i, cmd := range cmds {
		for room, n := range cmd.Val() {
			sockets, err := strconv.Atoi(n)
			if err != nil {
				return nil, fmt.Errorf("hub: redis: rooms: %w", err)
			}
			list = append(list, RoomInfo{Room: room, Sockets: sockets})
			persons = append(persons, pipe.HLen(ctx, b.parts[i].persons(room)))
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, b.fault(err)
	}
	for i := range list {
		list[i].Users = int(persons[i].Val())
	}
	return list, nil
}

var _ Cluster = (*RedisBroker)(nil)

package hub

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"time"
	"unicode/utf8"
)

// The saved form is lines of JSON: one head, one for each stream, one for the IDs seen, and a last one
// with the number of lines and their checksum.

const savedVersion = 1

type savedLine struct {
	Version int          `json:"version,omitempty"`
	Epoch   string       `json:"epoch,omitempty"` // of rooms in which nothing was said yet
	Stream  *savedStream `json:"stream,omitempty"`
	Seen    []savedID    `json:"seen,omitempty"`
	Lines   int          `json:"lines,omitempty"`
	CRC     uint32       `json:"crc,omitempty"`
}

type savedStream struct {
	Room     string         `json:"room"`
	Epoch    string         `json:"epoch"`
	Head     uint64         `json:"head"`
	Keep     Keep           `json:"keep"`
	Last     time.Time      `json:"last"`
	Messages []savedMessage `json:"messages"`
}

type savedMessage struct {
	ID      string    `json:"id"`
	Action  string    `json:"action"`
	Payload []byte    `json:"payload"` // base64: JSON inside JSON would not keep its bytes
	At      time.Time `json:"at"`
	Client  string    `json:"client,omitempty"`
	Target  string    `json:"target,omitempty"`
	KeptAt  time.Time `json:"keptAt"`
}

type savedID struct {
	Room   string    `json:"room"`
	ID     string    `json:"id"`
	Epoch  string    `json:"epoch"`
	Offset uint64    `json:"offset"`
	Said   time.Time `json:"said"`
}

// Save writes all streams with their Epochs and Offsets. Call it when nothing is published any more.
func (b *MemoryBroker) Save(w io.Writer) error {
	out := bufio.NewWriter(w)
	sum := crc32.NewIEEE()
	lines := 0
	line := func(l savedLine) error {
		text, err := json.Marshal(l)
		if err != nil {
			return err
		}
		text = append(text, '\n')
		lines++
		_, _ = sum.Write(text)
		_, err = out.Write(text)
		return err
	}
	err := line(savedLine{Version: savedVersion, Epoch: b.commonEpoch()})
	for i := range b.shards {
		sh := &b.shards[i]
		sh.mu.Lock()
		streams := maps.Clone(sh.streams)
		sh.mu.Unlock()
		for room, s := range streams {
			if err == nil {
				err = line(savedLine{Stream: s.saved(room)})
			}
		}
	}
	if err == nil {
		err = line(savedLine{Seen: b.seen.saved()})
	}
	if err == nil {
		err = line(savedLine{Lines: lines, CRC: sum.Sum32()})
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("hub: save streams: %w", err)
	}
	return nil
}

// commonEpoch is the Epoch that every room without a stream has, "" when a stream was forgotten since.
func (b *MemoryBroker) commonEpoch() (epoch string) {
	for i := range b.shards {
		sh := &b.shards[i]
		sh.mu.Lock()
		mine := sh.epoch
		sh.mu.Unlock()
		if i > 0 && mine != epoch {
			return ""
		}
		epoch = mine
	}
	return epoch
}

func (s *stream) saved(room string) *savedStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &savedStream{Room: room, Epoch: s.epoch, Head: s.head, Keep: s.keep, Last: time.Unix(0, s.last.Load()), Messages: []savedMessage{}}
	for i := range s.kept {
		m := &s.kept[i].m
		out.Messages = append(out.Messages, savedMessage{ID: m.ID, Action: m.Action, Payload: m.Payload, At: m.At,
			Client: m.Client, Target: m.Target, KeptAt: s.kept[i].at})
	}
	return out
}

func (s *seenIDs) saved() []savedID {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]savedID, 0, len(s.queue))
	for _, k := range s.queue {
		seen := s.at[k]
		list = append(list, savedID{k.room, k.id, seen.Epoch, seen.Offset, seen.said})
	}
	return list
}

// restore reads what Save wrote, all of it or an error.
func (b *MemoryBroker) restore(r io.Reader) error {
	in := bufio.NewReader(r)
	sum := crc32.NewIEEE()
	for n := 0; ; n++ {
		text, err := in.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("hub: restore streams: line %d: %w", n+1, err)
		}
		var l savedLine
		if err := json.Unmarshal(text, &l); err != nil {
			return fmt.Errorf("hub: restore streams: line %d: %w", n+1, err)
		}
		switch {
		case n == 0:
			if l.Version != savedVersion {
				return fmt.Errorf("hub: restore streams: version %d, want %d", l.Version, savedVersion)
			}
			for i := range b.shards {
				if l.Epoch != "" {
					b.shards[i].epoch = l.Epoch
				}
			}
		case l.Lines > 0:
			if l.Lines != n || l.CRC != sum.Sum32() {
				return errors.New("hub: restore streams: checksum does not fit")
			}
			if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
				return errors.New("hub: restore streams: something follows the end")
			}
			return nil
		case l.Stream != nil:
			if err := b.restoreStream(l.Stream); err != nil {
				return fmt.Errorf("hub: restore streams: line %d: %w", n+1, err)
			}
		default:
			for _, id := range l.Seen {
				b.seen.add(seenKey{id.Room, id.ID}, Position{id.Epoch, id.Offset}, id.Said)
			}
		}
		_, _ = sum.Write(text)
	}
}

func (b *MemoryBroker) restoreStream(in *savedStream) error {
	sh := b.shard(in.Room)
	switch {
	case !validRoom(in.Room):
		return ErrRoomName
	case in.Epoch == "" || uint64(len(in.Messages)) > in.Head || in.Keep.Size < 0:
		return fmt.Errorf("room %s: epoch %q, head %d, %d messages", in.Room, in.Epoch, in.Head, len(in.Messages))
	case sh.streams[in.Room] != nil:
		return fmt.Errorf("room %s is there twice", in.Room)
	}
	s := &stream{epoch: in.Epoch, head: in.Head, keep: in.Keep}
	s.last.Store(in.Last.UnixNano())
	first := in.Head - uint64(len(in.Messages)) + 1
	for i, m := range in.Messages {
		if len(m.Payload) > 0 && (!json.Valid(m.Payload) || !utf8.Valid(m.Payload)) {
			return fmt.Errorf("room %s: payload at offset %d is no JSON", in.Room, first+uint64(i))
		}
		s.kept = append(s.kept, kept{Message{ID: m.ID, Action: m.Action, Payload: m.Payload, At: m.At, Client: m.Client,
			Target: m.Target, Offset: first + uint64(i)}, m.KeptAt})
		s.bytes += s.kept[i].m.cost()
	}
	b.bytes.Add(int64(s.bytes))
	sh.streams[in.Room] = s
	return nil
}

package store

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Sizes in bytes. They keep nonsense out; what the platform and the web allow is narrower.
const (
	maxName    = 128       // ids, rooms, keys
	maxText    = 4 << 10   // one field of a person's or the platform's text
	maxPayload = 256 << 10 // one message
	maxRaw     = 256 << 10 // evidence of one payment, answer of one push
	maxPicture = 1 << 20
	maxToken   = 64 << 10 // platform certificates have some KiB
	maxReason  = 500      // why a row failed; longer ones are cut
)

var (
	outTradeNos  = regexp.MustCompile(`^[0-9A-Za-z_|*-]{6,32}$`)  // WeChat Pay
	outRefundNos = regexp.MustCompile(`^[0-9A-Za-z_|*@-]{1,64}$`) // WeChat Pay
	userIDs      = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	roomNames    = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,128}$`)
	currencies   = regexp.MustCompile(`^[A-Z]{3}$`)
	pictureTypes = regexp.MustCompile(`^image/(png|jpeg|gif|webp)$`) // never what a browser would run
	kinds        = regexp.MustCompile(`^[a-z_.]{1,32}$`)
)

// inputs collects the first fault of a call's inputs. Its texts name fields, never values: those may be an openid.
type inputs struct{ err error }

func (in *inputs) fault(field, rule string) {
	if in.err == nil {
		in.err = fmt.Errorf("%w: %s %s", ErrInvalid, field, rule)
	}
}

func (in *inputs) matches(field, value string, pattern *regexp.Regexp) {
	if !pattern.MatchString(value) {
		in.fault(field, "must match "+pattern.String())
	}
}

// text wants least to most bytes of UTF-8 without NUL, which PostgreSQL cannot keep.
func (in *inputs) text(field, value string, least, most int) {
	switch {
	case len(value) < least:
		in.fault(field, "is missing")
	case len(value) > most:
		in.fault(field, fmt.Sprintf("is longer than %d bytes", most))
	case !utf8.ValidString(value) || strings.IndexByte(value, 0) >= 0:
		in.fault(field, "must be UTF-8 without NUL")
	}
}

func (in *inputs) bytes(field string, value []byte, most int) {
	if len(value) > most {
		in.fault(field, fmt.Sprintf("is longer than %d bytes", most))
	}
}

func (in *inputs) json(field string, value json.RawMessage) {
	in.bytes(field, value, maxPayload)
	if in.err == nil && len(value) > 0 && !json.Valid(value) {
		in.fault(field, "must be JSON")
	}
}

func (in *inputs) number(field string, value, least, most int64) {
	if value < least || value > most {
		in.fault(field, fmt.Sprintf("must be %d to %d", least, most))
	}
}

// limited reads a caller's limit: 1 to most, 0 means usual.
func (in *inputs) limited(limit, usual, most int) int {
	if limit == 0 {
		return usual
	}
	in.number("limit", int64(limit), 1, int64(most))
	return limit
}

// maxFen keeps sums of a few amounts within an int64.
const maxFen = math.MaxInt64 / 1024

// cut shortens s to at most n bytes of whole UTF-8 characters without NUL.
func cut(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

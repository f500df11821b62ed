package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An expectation is one threshold: a figure, a comparison and a limit.
type expectation struct {
	name  string
	op    string  // <, <=, =, >=, >
	limit float64 // a count, or milliseconds
}

// always holds unless -expect names the same figure.
var always = []expectation{
	{"missing", "=", 0}, {"repeated", "=", 0}, {"reordered", "=", 0}, {"altered", "=", 0}, {"gaps", "=", 0},
	{"failed", "=", 0}, {"refused", "=", 0}, {"ghosts", "=", 0},
}

// isTime tells whether a figure is a time; the others are counts.
func isTime(name string) bool {
	name = strings.TrimPrefix(name, "connect_")
	return strings.HasPrefix(name, "p") || name == "max"
}

// parseExpectations reads "p99<200ms,missing=0". A time has a unit (ms, s, us).
func parseExpectations(text string) (list []expectation, err error) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		i := strings.IndexAny(part, "<>=")
		if i <= 0 {
			return nil, fmt.Errorf("-expect %q: write NAME<VALUE, with <, <=, =, >= or >", part)
		}
		e := expectation{name: strings.TrimSpace(part[:i]), op: part[i : i+1]}
		rest := part[i+1:]
		if e.op != "=" && strings.HasPrefix(rest, "=") {
			e.op, rest = e.op+"=", rest[1:]
		}
		rest = strings.TrimSpace(rest)
		if _, known := (&result{}).figure(e.name); !known {
			return nil, fmt.Errorf("-expect %q: no such figure; there are %s", e.name, strings.Join(figureNames(), ", "))
		}
		if isTime(e.name) {
			d, err := time.ParseDuration(rest)
			if err != nil {
				return nil, fmt.Errorf("-expect %q: %q is not a time such as 200ms", e.name, rest)
			}
			e.limit = milliseconds(d)
		} else if e.limit, err = strconv.ParseFloat(rest, 64); err != nil {
			return nil, fmt.Errorf("-expect %q: %q is not a number", e.name, rest)
		}
		list = append(list, e)
	}
	return list, nil
}

func (e expectation) unit() string {
	if isTime(e.name) {
		return "ms"
	}
	return ""
}

func (e expectation) String() string { return fmt.Sprintf("%s%s%g%s", e.name, e.op, e.limit, e.unit()) }

func (e expectation) met(value float64) bool {
	c := cmp.Compare(value, e.limit)
	switch e.op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	default:
		return c > 0
	}
}

// withAlways adds what is expected anyway, where list says nothing of the figure.
func withAlways(list []expectation) []expectation {
	all := append([]expectation(nil), list...)
	for _, a := range always {
		named := false
		for _, e := range list {
			named = named || e.name == a.name
		}
		if !named {
			all = append(all, a)
		}
	}
	return all
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

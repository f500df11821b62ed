package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"wxhub/hub"
)

// A roomRule is one entry of rooms in wxhub.yaml, as it was written.
type roomRule map[string]any

// readRooms takes the list as YAML gives it.
func (s *Settings) readRooms(value any) error {
	list, ok := value.([]any)
	if !ok && value != nil {
		return errors.New("must be a list of rules")
	}
	for i, entry := range list {
		rule, ok := entry.(map[string]any)
		if !ok {
			return fmt.Errorf("rule %d: must have keys and values, first of all pattern", i+1)
		}
		s.Rooms = append(s.Rooms, rule)
	}
	return nil
}

// The words of the settings file for circles of people and what they learn of each other.
var (
	joinWords = map[string]hub.Who{
		"anyone": hub.Anyone, // every session
		"claim":  hub.Nobody, // whom the token's rooms allow, staff and admins
		"admins": hub.Staff,  // staff and admins; a token must name the room in full
	}
	publishWords = map[string]hub.Who{
		"anyone": hub.Anyone, "members": hub.Member, "staff": hub.Staff, "admins": hub.Admin, "server": hub.Nobody,
	}
	presenceWords = map[string]hub.PresenceKind{"ids": hub.PresenceIDs, "count": hub.PresenceCount, "off": hub.PresenceNone}
)

const (
	mostHistory    = 100_000 // messages of one room
	mostHistoryAge = 30 * 24 * time.Hour
	mostRate       = 1e6
	mostWindow     = time.Second
)

// roomRules are the rooms' rules in the order in which they are tried: mail, names in full, then patterns; of each the
// file's before the built-in ones. What a rule of the file leaves out is as it would be without it.
func roomRules(list []roomRule) ([]hub.Rule, error) {
	builtIn := hub.DefaultRules()
	var errs []error
	var full, patterns []hub.Rule
	for i, entry := range list {
		r, err := entry.rule(builtIn)
		if err == nil {
			err = rivals(r.Pattern, append(slices.Clone(full), patterns...))
		}
		if err != nil {
			name := ""
			if entry["pattern"] != nil {
				name = fmt.Sprintf(" (%v)", entry["pattern"])
			}
			errs = append(errs, fmt.Errorf("rooms: rule %d%s: %w", i+1, name, err))
			continue
		}
		if strings.HasSuffix(r.Pattern, "*") {
			patterns = append(patterns, r)
		} else {
			full = append(full, r)
		}
	}
	var mail, builtInFull, builtInPatterns []hub.Rule
	for _, r := range builtIn {
		switch {
		case r.Mail:
			mail = append(mail, r)
		case strings.HasSuffix(r.Pattern, "*"):
			builtInPatterns = append(builtInPatterns, r)
		default:
			builtInFull = append(builtInFull, r)
		}
	}
	return slices.Concat(mail, full, builtInFull, patterns, builtInPatterns), errors.Join(errs...)
}

// rivals finds a rule before this one that takes every room from it.
func rivals(pattern string, before []hub.Rule) error {
	for _, r := range before {
		if r.Pattern == pattern {
			return errors.New("the pattern stands twice")
		}
		if prefix, wild := strings.CutSuffix(r.Pattern, "*"); wild && strings.HasSuffix(pattern, "*") && strings.HasPrefix(pattern, prefix) {
			return fmt.Errorf("is never used: %s stands before it and fits the same rooms", r.Pattern)
		}
	}
	return nil
}

// rule reads one entry over the built-in rule that would hold otherwise.
func (e roomRule) rule(builtIn []hub.Rule) (hub.Rule, error) {
	pattern, _ := e["pattern"].(string)
	if pattern == "" {
		return hub.Rule{}, errors.New("pattern is missing: a room's name, or a beginning followed by *")
	}
	if strings.HasPrefix(pattern, "user:") {
		return hub.Rule{}, errors.New("user:ID is mail, whose rule is fixed")
	}
	r := ruleFor(builtIn, pattern)
	r.Pattern = pattern
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(e)) {
		if err := set(&r, key, e[key]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	if _, asked := e["join"]; asked && pattern == "all" {
		errs = append(errs, errors.New("join: everybody is in all"))
	}
	if len(errs) == 0 && r.Announce && r.Presence != hub.PresenceIDs {
		errs = append(errs, errors.New("announce: needs presence: ids, because it tells who came"))
	}
	if len(errs) == 0 {
		errs = append(errs, r.Check())
	}
	return r, errors.Join(errs...)
}

// ruleFor is the built-in rule for the rooms of a pattern.
func ruleFor(builtIn []hub.Rule, pattern string) hub.Rule {
	for _, r := range builtIn {
		prefix, wild := strings.CutSuffix(r.Pattern, "*")
		if r.Pattern == pattern || wild && !r.Mail && strings.HasPrefix(strings.TrimSuffix(pattern, "*"), prefix) {
			return r
		}
	}
	return hub.Rule{}
}

// set puts one key of an entry into the rule.
func set(r *hub.Rule, key string, value any) (err error) {
	switch key {
	case "pattern":
	case "join":
		r.Join, err = word(value, joinWords)
	case "publish":
		r.Publish, err = word(value, publishWords)
	case "presence":
		if value == false { // YAML reads a bare off as false
			value = "off"
		}
		r.Presence, err = word(value, presenceWords)
	case "history":
		var n float64
		n, err = amount(value, mostHistory)
		if r.Keep.Size = int(n); err == nil && n != float64(r.Keep.Size) {
			err = fmt.Errorf("%v is no whole number", value)
		}
	case "history_age":
		r.Keep.Age, err = span(value, mostHistoryAge)
	case "announce":
		r.Announce, err = flag(value)
	case "moderate":
		r.Moderate, err = flag(value)
	case "rate":
		r.Rate, err = amount(value, mostRate)
	case "window":
		r.Window, err = span(value, mostWindow)
	default:
		err = errors.New("there is no such key: pattern, join, publish, history, history_age, presence, announce, moderate, rate and window are")
	}
	return err
}

func word[W ~string](value any, words map[string]W) (W, error) {
	text, _ := value.(string)
	w, ok := words[text]
	if !ok {
		return "", fmt.Errorf("%v is none of %s", value, strings.Join(slices.Sorted(maps.Keys(words)), ", "))
	}
	return w, nil
}

func flag(value any) (bool, error) {
	b, ok := value.(bool)
	if !ok {
		return false, fmt.Errorf("%v is neither true nor false", value)
	}
	return b, nil
}

func amount(value any, most float64) (float64, error) {
	var n float64
	switch v := value.(type) {
	case int:
		n = float64(v)
	case float64:
		n = v
	default:
		return 0, fmt.Errorf("%v is no number", value)
	}
	if !(n >= 0 && n <= most) {
		return 0, fmt.Errorf("%v does not lie between 0 and %v", value, most)
	}
	return n, nil
}

func span(value any, most time.Duration) (time.Duration, error) {
	text, _ := value.(string)
	if value == 0 {
		text = "0s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > most {
		return 0, fmt.Errorf("%v is no duration between 0s and %s", value, most)
	}
	return d, nil
}

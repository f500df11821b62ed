package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"

	"wxhub/web"
)

type settingsFlag struct {
	Config string `help:"Settings file (default: wxhub.yaml where it exists)." type:"path" placeholder:"FILE"`
}

type serveCommand struct {
	settingsFlag
}

// Run serves until it is told to stop.
func (c serveCommand) Run(ctx context.Context, s streams) error {
	set, err := readSettings(c.Config, s.env)
	if err != nil {
		return fmt.Errorf("the settings are not right:\n%w", err)
	}
	log := newLogger(s.err)
	a, err := newApp(ctx, set, log, nil)
	if err != nil {
		return err
	}
	l, err := listen(ctx, set.get("ADDR"), "WXHUB_ADDR")
	if err != nil {
		return errors.Join(err, a.discard())
	}
	log.Info("serving", "addr", l.Addr().String(), "version", version())
	return a.run(ctx, l)
}

// newLogger writes lines for people on a terminal and JSON elsewhere.
func newLogger(w io.Writer) *slog.Logger {
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{TimeFormat: time.TimeOnly}))
	}
	return slog.New(slog.NewJSONHandler(w, nil))
}

type configCommand struct {
	settingsFlag
}

// Run prints every setting with where it came from; a secret only as set or not.
func (c configCommand) Run(s streams) error {
	set, err := loadSettings(c.Config, s.env)
	if err != nil {
		return err
	}
	for _, row := range settingsTable {
		value := strings.ReplaceAll(set.get(row.name), "\n", `\n`)
		if row.secret && value != "" {
			value = "********"
		}
		origin := set.origin[row.name]
		if origin == "WXHUB_"+row.name {
			origin = "environment"
		}
		fmt.Fprintf(s.out, "%-24s %-42q %-12s %s\n", strings.ToLower(row.name), value, origin, row.help)
	}
	fmt.Fprintf(s.out, "%-24s %d\n%-24s %d\n%-24s %d\n%-24s %d\n", "products", len(set.Products), "replies", len(set.Replies), "hooks", len(set.Hooks), "rooms", len(set.Rooms))
	return nil
}

type tokenCommand struct {
	settingsFlag
	User  string        `arg:"" help:"User id: [A-Za-z0-9_.-]{1,64}."`
	Role  string        `help:"user, staff or admin." enum:"user,staff,admin" default:"user"`
	Rooms []string      `help:"Patterns of rooms that the token may join beyond the public ones."`
	TTL   time.Duration `help:"How long the token is good." default:"24h"`
}

// Run prints one token. It reads the keys alone: no database is opened.
func (c tokenCommand) Run(s streams) error {
	if c.TTL < time.Second {
		return fmt.Errorf("--ttl %s: a token must be good for at least a second", c.TTL)
	}
	set, err := loadSettings(c.Config, s.env)
	if err != nil {
		return err
	}
	check := &check{s: set}
	keys := check.jwtKeys()
	if len(check.errs) > 0 {
		return check.errs[0]
	}
	tokens, err := web.NewTokens(keys, c.TTL, nil)
	if err != nil {
		return err
	}
	token, err := tokens.Issue(c.User, c.Role, c.Rooms, c.TTL)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, token)
	return err
}

// environment gives settings back as WXHUB_ lines, sorted, for people to paste.
func environment(values map[string]string) (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		lines = append(lines, "WXHUB_"+name+"='"+strings.ReplaceAll(values[name], "\n", `\n`)+"'")
	}
	return lines
}

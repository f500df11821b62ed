// Command wxhub is the hub, its demo, the WeChat simulator and the tools around them, in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop() // here, because Exit skips defers
	os.Exit(code)
}

// streams is what a command may touch of the outside; handed in, so that tests can.
type streams struct {
	env      []string
	out, err io.Writer
}

type commands struct {
	Demo    demoCommand    `cmd:"" help:"Hub, WeChat simulator and sample shop in one go; no configuration."`
	Serve   serveCommand   `cmd:"" help:"Production: settings from wxhub.yaml and WXHUB_* variables."`
	Sim     simCommand     `cmd:"" help:"The WeChat simulator alone, for hubs and other programs."`
	Trigger triggerCommand `cmd:"" help:"Play one platform event against a running hub."`
	Doctor  doctorCommand  `cmd:"" help:"Look at a deployment: settings, database, Redis, clock, WeChat, the way in; say what to do."`
	Token   tokenCommand   `cmd:"" help:"Issue a token signed with the configured key."`
	Config  configCommand  `cmd:"" help:"Print the effective settings, secrets masked."`
	Version versionCommand `cmd:"" help:"Version and build."`
}

// run is main without the process around it. It returns the exit status: 0 well, 1 failed, 2 wrong usage.
func run(ctx context.Context, args, env []string, out, errOut io.Writer) int {
	var c commands
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("wxhub"),
		kong.Description("Real-time notification hub for WeChat mini-programs.\nStart here: wxhub demo"),
		kong.Writers(out, errOut),
		kong.Exit(func(code int) { exit = code }),
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(errOut, "wxhub:", err)
		return 2
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(joinNegative(args))
	if exit >= 0 { // --help and the like have answered
		return exit
	}
	if err != nil {
		fmt.Fprintf(errOut, "wxhub: %v\nSee: wxhub --help\n", err)
		return 2
	}
	k.BindTo(ctx, (*context.Context)(nil))
	if err := k.Run(streams{env: env, out: out, err: errOut}); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(errOut, "wxhub: %v\n", err)
		return 1
	}
	return 0
}

// joinNegative writes `--skew -10m` as `--skew=-10m`: a flag's value may begin with a minus and a digit.
func joinNegative(args []string) (joined []string) {
	for _, arg := range args {
		n := len(joined)
		if len(arg) > 1 && arg[0] == '-' && arg[1] >= '0' && arg[1] <= '9' && n > 0 && strings.HasPrefix(joined[n-1], "--") && !strings.Contains(joined[n-1], "=") {
			joined[n-1] += "=" + arg
			continue
		}
		joined = append(joined, arg)
	}
	return joined
}

type versionCommand struct{}

// Run prints one line.
func (versionCommand) Run(s streams) error {
	_, err := fmt.Fprintln(s.out, "wxhub", version())
	return err
}

// version is the module's version, or the commit that the binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v, rev, dirty := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			rev = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+changes"
			}
		}
	}
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	if len(rev) >= 12 {
		v += " " + rev[:12] + dirty
	}
	return v + " " + info.GoVersion
}

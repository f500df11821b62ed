package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// growOptions are the flags of grow.
type growOptions struct {
	compareOptions
	sockets, rooms, nodes []int
	out                   string
}

// A sweep is one question of the capacity page: how cost grows with something. Points have the sizes in order.
type sweep struct {
	Name   string   `json:"name"` // sockets, rooms or nodes
	Fixed  string   `json:"fixed"`
	Points []growth `json:"points"`
}

// A growth is what one size came to.
type growth struct {
	Size         int     `json:"size"`
	Sockets      int     `json:"sockets"`
	KiBPerSocket float64 `json:"kibPerSocket"`
	ConnectCPU   float64 `json:"connectCPU"`  // milliseconds for 1,000 sockets
	PublishCPU   float64 `json:"publishCPU"`  // microseconds for a message
	DeliveryCPU  float64 `json:"deliveryCPU"` // seconds for a million deliveries
	P50          float64 `json:"p50"`         // milliseconds
	P99          float64 `json:"p99"`
	Missing      int     `json:"missing"`
}

// grow measures wxhub at several sizes, one after the other, and writes figures and plots.
func grow(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := growOptions{}
	var sockets, rooms, nodes string
	f := flag.NewFlagSet("loadtest grow", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&sockets, "sockets", "1000,5000,15000", "sizes of one room on one node")
	f.StringVar(&rooms, "rooms", "10,1000,10000", "numbers of rooms over the most sockets of -sockets, at most 10,000")
	f.StringVar(&nodes, "nodes", "1,2,3", "numbers of nodes behind one Redis, with the middle size of -sockets")
	f.IntVar(&o.messages, "messages", 100, "messages in each measurement")
	f.Float64Var(&o.rate, "rate", 20, "messages a second")
	f.StringVar(&o.wxhub, "wxhub", "", "binary of wxhub (default: built from here)")
	f.StringVar(&o.out, "out", ".", "folder for grow.json and the plots")
	f.BoolVar(&o.quiet, "quiet", false, "no progress line")
	if err := f.Parse(args); err != nil {
		return err
	}
	var errs [3]error
	o.sockets, errs[0] = numbers("-sockets", sockets)
	o.rooms, errs[1] = numbers("-rooms", rooms)
	o.nodes, errs[2] = numbers("-nodes", nodes)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if !hasProcesses {
		return errors.New("grow reads what servers cost from /proc, which only Linux has")
	}
	if o.messages < 1 || o.rate <= 0 {
		return errors.New("-messages and -rate must be above 0")
	}
	o.seed, o.pad, o.room, o.ramp, o.settle, o.hold = 1, 64, "notice", 2000, 10*time.Second, 2*time.Second
	o.protocol, o.keyID, o.keySecret, o.apiKey = "native", "k1", []byte(compareSecret), compareKey
	raiseFileLimit()
	line := newProgress(stderr, o.quiet)
	dir, err := os.MkdirTemp("", "loadtest-grow")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sweeps := []sweep{
		{Name: "sockets", Fixed: "one room, one node"},
		{Name: "rooms", Fixed: fmt.Sprintf("%d sockets, one node", min(last(o.sockets), 10000))},
		{Name: "nodes", Fixed: fmt.Sprintf("%d sockets in one room, one Redis", o.sockets[len(o.sockets)/2])},
	}
	for i, sizes := range [][]int{o.sockets, o.rooms, o.nodes} {
		for _, size := range sizes {
			one := o
			one.rooms, one.nodes = nil, nil
			clients, rooms, nodes := last(o.sockets), 1, 1
			switch i {
			case 0:
				clients = size
			case 1:
				clients, rooms = min(clients, 10000), size
				one.rate, one.messages = 10*o.rate, 10*o.messages
			case 2:
				clients, nodes = o.sockets[len(o.sockets)/2], size
			}
			line.say("%s %d", sweeps[i].Name, size)
			g, err := one.at(ctx, line, dir, clients, rooms, nodes)
			line.done()
			if errors.Is(err, errNotHere) {
				fmt.Fprintf(stderr, "%s %d is passed over: %v\n", sweeps[i].Name, size, err)
				continue
			}
			if err != nil {
				return fmt.Errorf("%s %d: %w", sweeps[i].Name, size, err)
			}
			g.Size = size
			sweeps[i].Points = append(sweeps[i].Points, g)
		}
	}
	if err := writeGrowth(o.out, sweeps); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d cores, %s/%s, servers and clients on one machine\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	for _, s := range sweeps {
		fmt.Fprintf(stdout, "\n| %s (%s) | KiB a socket | connect, CPU ms per 1,000 | CPU µs a message | CPU s per million deliveries | p50 | p99 | missing |\n|---|---|---|---|---|---|---|---|\n", s.Name, s.Fixed)
		for _, p := range s.Points {
			fmt.Fprintf(stdout, "| %d | %.1f | %.0f | %.0f | %.2f | %s | %s | %d |\n", p.Size, p.KiBPerSocket, p.ConnectCPU, p.PublishCPU, p.DeliveryCPU, shortMS(p.P50), shortMS(p.P99), p.Missing)
		}
	}
	return nil
}

func last(list []int) int { return list[len(list)-1] }

func numbers(name, text string) (list []int, err error) {
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%s %q: numbers above 0 with commas", name, text)
		}
		list = append(list, n)
	}
	return list, nil
}

// at measures one size.
func (o growOptions) at(ctx context.Context, line *progress, dir string, clients, rooms, nodes int) (growth, error) {
	at, err := os.MkdirTemp(dir, "size")
	if err != nil {
		return growth{}, err
	}
	watch := &sampler{began: time.Now()}
	redis := ""
	if nodes > 1 {
		s, address, err := startRedis(ctx)
		if err != nil {
			return growth{}, err
		}
		defer s.stop()
		redis = address
	}
	if o.wxhub == "" {
		if o.wxhub, err = goBuild(ctx, dir, "wxhub", "./cmd/wxhub"); err != nil {
			return growth{}, err
		}
	}
	for range nodes {
		p := peers["wxhub"]
		p.start = func(ctx context.Context, c compareOptions, dir string, port int) (*exec.Cmd, error) {
			cmd, err := startHub(ctx, c, dir, port)
			if err == nil && redis != "" {
				cmd.Env = append(cmd.Env, "WXHUB_REDIS_URL=redis://"+redis)
			}
			return cmd, err
		}
		s, err := launch(ctx, p, o.compareOptions, at)
		if err != nil {
			return growth{}, err
		}
		defer s.stop()
		o.urls = append(o.urls, s.url)
		watch.processes = append(watch.processes, s.cmd.Process.Pid)
	}
	own := o.options
	own.urls, own.clients, own.rooms, own.sources = o.urls, clients, rooms, 1+clients/10000
	t := newTarget(own)
	defer t.close()
	watch.target = t
	r := &round{options: own, target: t, scenario: scenario{holds: true, perRoom: rooms > 1}, name: "grow", progress: line, sampler: watch}
	got, err := r.play(ctx)
	if err != nil {
		return growth{}, err
	}
	if got.Failed+got.Refused > 0 {
		return growth{}, fmt.Errorf("%d clients failed, %d messages were refused: %s", got.Failed, got.Refused, strings.Join(got.Notes, "; "))
	}
	return growth{
		Sockets: clients, KiBPerSocket: got.KiBPerSocket, ConnectCPU: got.ConnectCPU, DeliveryCPU: got.DeliveryCPU,
		PublishCPU: got.DeliveryCPU * float64(got.Received) / float64(got.Sent), P50: got.P50, P99: got.P99, Missing: got.Missing,
	}, nil
}

func startRedis(ctx context.Context) (*server, string, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, "", fmt.Errorf("redis-server %w", errNotHere)
	}
	var address string
	s, err := launch(ctx, peer{start: func(ctx context.Context, _ compareOptions, _ string, port int) (*exec.Cmd, error) {
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		return exec.CommandContext(ctx, bin, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--appendonly", "no"), nil //nolint:gosec // found on the path
	}}, compareOptions{}, "")
	return s, address, err
}

// writeGrowth writes the figures and a plot of each sweep.
func writeGrowth(dir string, sweeps []sweep) error {
	text, err := json.MarshalIndent(sweeps, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "grow.json"), append(text, '\n'), 0o644); err != nil { //nolint:gosec // figures, to be shown
		return err
	}
	for _, s := range sweeps {
		if err := os.WriteFile(filepath.Join(dir, "grow-"+s.Name+".svg"), s.plot(), 0o644); err != nil { //nolint:gosec // a picture
			return err
		}
	}
	return nil
}

// plot draws three small charts side by side: CPU of a message, CPU of a delivery, memory of a socket.
func (s sweep) plot() []byte {
	const width, height, left, bottom, top = 240, 170, 44, 34, 26
	charts := []struct {
		title string
		value func(growth) float64
	}{
		{"CPU µs a message", func(g growth) float64 { return g.PublishCPU }},
		{"p99, ms", func(g growth) float64 { return g.P99 }},
		{"KiB a socket", func(g growth) float64 { return g.KiBPerSocket }},
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui,sans-serif" font-size="10" fill="#667485">`, width*len(charts), height)
	b.WriteByte('\n')
	for c, chart := range charts {
		x0, most := c*width, 0.0
		for _, p := range s.Points {
			most = max(most, chart.value(p))
		}
		most = roundUp(most)
		fmt.Fprintf(&b, `<text x="%d" y="14" font-size="11" font-weight="600">%s</text>`+"\n", x0+left, chart.title)
		for i := range 3 {
			y := height - bottom - i*(height-bottom-top)/2
			fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="#cfd6de"/><text x="%d" y="%d" text-anchor="end">%s</text>`+"\n",
				x0+left, x0+width-12, y, y, x0+left-5, y+3, strconv.FormatFloat(most*float64(i)/2, 'g', 4, 64))
		}
		wide := (width - left - 12) / max(len(s.Points), 1)
		for i, p := range s.Points {
			tall := float64(height-bottom-top) * chart.value(p) / most
			x := x0 + left + i*wide + wide/5
			fmt.Fprintf(&b, `<rect x="%d" y="%.1f" width="%d" height="%.1f" rx="2" fill="#07a35a"/><text x="%d" y="%d" text-anchor="middle">%d</text>`+"\n",
				x, float64(height-bottom)-max(tall, 0), wide*3/5, max(tall, 0), x+wide*3/10, height-bottom+14, p.Size)
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", x0+left+(width-left-12)/2, height-4, s.Name)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// roundUp is the next number of the kind 1, 2, 2.5, 5 times a power of ten.
func roundUp(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := 1.0
	for power < v/10 {
		power *= 10
	}
	for power > v {
		power /= 10
	}
	for _, k := range []float64{1, 2, 2.5, 5, 10} {
		if k*power >= v {
			return k * power
		}
	}
	return 10 * power
}

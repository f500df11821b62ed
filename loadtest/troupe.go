package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Crowds in other processes: where one process may not open enough files, this program starts itself again, and
// both speak lines of JSON over pipes.

// crowdCommand is the argument that makes this program such a process.
const crowdCommand = "crowd"

// An order to a crowd in another process; one field is set.
type command struct {
	Cast    *cast      `json:"cast,omitempty"`
	Connect *time.Time `json:"connect,omitempty"`
	Start   *time.Time `json:"start,omitempty"`
	Status  bool       `json:"status,omitempty"`
	Finish  *ended     `json:"finish,omitempty"`
}

type ended struct {
	Accepted []bool   `json:"accepted"`
	Places   []uint64 `json:"places"`
}

type reply struct {
	Error    string    `json:"error,omitempty"`
	Status   *status   `json:"status,omitempty"`
	Findings *findings `json:"findings,omitempty"`
}

// process is a troupe in another process.
type process struct {
	cmd  *exec.Cmd
	mu   sync.Mutex // one question at a time
	in   io.WriteCloser
	out  *json.Decoder
	last status
}

func startProcess(ctx context.Context, c cast) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, self, crowdCommand)} //nolint:gosec // ourselves
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(bufio.NewReader(out))
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	_, err = p.ask(command{Cast: &c})
	return p, err
}

func (p *process) ask(c command) (reply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.NewEncoder(p.in).Encode(c); err != nil {
		return reply{}, fmt.Errorf("crowd process: %w", err)
	}
	var r reply
	if err := p.out.Decode(&r); err != nil {
		return r, fmt.Errorf("crowd process: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

func (p *process) connect(_ context.Context, due time.Time) error {
	_, err := p.ask(command{Connect: &due})
	return err
}

func (p *process) start(at time.Time) { _, _ = p.ask(command{Start: &at}) } // status and finish will tell

func (p *process) status() status {
	r, err := p.ask(command{Status: true})
	if err == nil && r.Status != nil {
		p.last = *r.Status
	}
	return p.last
}

func (p *process) finish(accepted []bool, places []uint64) (findings, error) {
	r, err := p.ask(command{Finish: &ended{accepted, places}})
	_ = p.in.Close()
	err = errors.Join(err, p.cmd.Wait())
	if err != nil || r.Findings == nil {
		return newFindings(len(accepted)), errors.Join(errors.New("a crowd process was lost"), err)
	}
	return *r.Findings, nil
}

// playCrowd is the other end: it serves commands from in until that ends.
func playCrowd(ctx context.Context, in io.Reader, out io.Writer) error {
	questions, answers := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	var c *crowd
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	for {
		var q command
		if err := questions.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var a reply
		var err error
		switch {
		case q.Cast != nil:
			c, err = newCrowd(*q.Cast)
		case c == nil:
			err = errors.New("a crowd without a cast")
		case q.Connect != nil:
			err = c.connect(ctx, *q.Connect)
		case q.Start != nil:
			c.start(*q.Start)
		case q.Status:
			s := c.status()
			a.Status = &s
		case q.Finish != nil:
			var f findings
			f, err = c.finish(q.Finish.Accepted, q.Finish.Places)
			a.Findings = &f
			c = nil
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

// troupes are several as one.
type troupes []troupe

// gather splits a cast over as many processes as the file limit asks for.
func gather(ctx context.Context, c cast) (troupes, error) {
	each := max(fileLimit()-filesKept, 1)
	if len(c.People) <= each {
		m, err := newCrowd(c)
		return troupes{m}, err
	}
	var all troupes
	n := (len(c.People) + each - 1) / each
	for i := range n {
		part := c
		low, high := i*len(c.People)/n, (i+1)*len(c.People)/n
		part.First, part.People, part.Ramp = c.First+low, c.People[low:high], c.Ramp/float64(n)
		p, err := startProcess(ctx, part)
		if err != nil {
			return nil, err // ctx's end ends the others
		}
		all = append(all, p)
	}
	return all, nil
}

const filesKept = 256 // descriptors for everything but clients

func (t troupes) connect(ctx context.Context, due time.Time) error {
	return t.each(func(one troupe) error { return one.connect(ctx, due) })
}

func (t troupes) each(do func(troupe) error) error {
	errs := make([]error, len(t))
	var wg sync.WaitGroup
	for i, one := range t {
		wg.Go(func() { errs[i] = do(one) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (t troupes) start(at time.Time) {
	_ = t.each(func(one troupe) error { one.start(at); return nil })
}

func (t troupes) status() (all status) {
	for _, one := range t {
		all.add(one.status())
	}
	return all
}

func (t troupes) finish(accepted []bool, places []uint64) (findings, error) {
	all := newFindings(len(accepted))
	var mu sync.Mutex
	err := t.each(func(one troupe) error {
		f, err := one.finish(accepted, places)
		mu.Lock()
		defer mu.Unlock()
		all.add(f)
		return err
	})
	return all, err
}

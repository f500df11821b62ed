package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A target is the hub under test, one or several nodes, and the simulator beside it.
type target struct {
	options
	http *http.Client
	lost atomic.Int64 // how often a node did not answer: the next one's turn
	// publish says payload in a room of a server that is not the hub; nil: it is.
	publish func(ctx context.Context, t *target, room string, payload json.RawMessage) error
}

func newTarget(o options) *target {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}).DialContext,
		MaxIdleConnsPerHost: publishers, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: o.insecure}, //nolint:gosec // asked for, in a test set-up
	}
	return &target{options: o, http: &http.Client{Timeout: 30 * time.Second, Transport: transport}}
}

func (t *target) close() { t.http.CloseIdleConnections() }

// hub is the node that is spoken to now.
func (t *target) hub() string { return t.urls[int(t.lost.Load())%len(t.urls)] }

// A refusal is an answer that says no.
type refusal struct {
	Status     int
	Word       string
	Message    string
	retryAfter time.Duration
}

func (r *refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", r.Status, r.Word, r.Message))
}

// call sends body and reads the answer's data into out. The hub's envelope and the simulator's bare objects both do.
func (t *target) call(ctx context.Context, method, address string, header http.Header, body, out any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(text))
	if err != nil {
		return err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	a, err := t.http.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	text, err = io.ReadAll(io.LimitReader(a.Body, 1<<20))
	if err != nil {
		return err
	}
	var envelope struct {
		Code    any // a number in the hub's envelope; the simulator has a text of this name
		OK      *bool
		Data    json.RawMessage
		Error   string
		Message string
		ErrMsg  string
	}
	jsonErr := json.Unmarshal(text, &envelope)
	code, enveloped := envelope.Code.(float64)
	if a.StatusCode >= 400 || (enveloped && code != 1) || (envelope.OK != nil && !*envelope.OK) {
		seconds, _ := strconv.Atoi(a.Header.Get("Retry-After")) // absent or a date: 0
		return &refusal{a.StatusCode, envelope.Error, envelope.Message + envelope.ErrMsg, time.Duration(seconds) * time.Second}
	}
	if jsonErr != nil {
		return fmt.Errorf("%s: the answer is not JSON: %w", r.URL.Path, jsonErr)
	}
	if out == nil {
		return nil
	}
	if enveloped {
		text = envelope.Data
	}
	return json.Unmarshal(text, out)
}

// consistent asks every node, when all is quiet, whether its own maps agree. Who does not say so is not judged by it:
// a node that was killed, or another server.
func (t *target) consistent(ctx context.Context) error {
	for _, node := range t.urls {
		for try := 0; ; try++ {
			text, agrees := t.asksItself(ctx, node)
			if agrees {
				break
			}
			if try == consistencyTries {
				return fmt.Errorf("the hub's own maps do not agree: %s", text)
			}
			if err := sleep(ctx, consistencyPause); err != nil { // sockets on their way out are gone by then
				return err
			}
		}
	}
	return nil
}

func (t *target) asksItself(ctx context.Context, node string) (text []byte, agrees bool) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, node+"/debug/consistency", nil)
	if err != nil {
		return nil, true
	}
	r.Header = t.admin()
	a, err := t.http.Do(r)
	if err != nil {
		return nil, true
	}
	defer a.Body.Close()
	text, err = io.ReadAll(io.LimitReader(a.Body, 1<<16))
	return bytes.TrimSpace(text), err != nil || a.StatusCode != http.StatusInternalServerError
}

const (
	consistencyTries = 10
	consistencyPause = 300 * time.Millisecond
)

func (t *target) admin() http.Header { return http.Header{"X-Api-Key": {t.apiKey}} }

// A person is somebody with a phone.
type person struct {
	Name  string `json:"name"` // at the simulator; the user id where tokens are signed here
	User  string `json:"user"` // the hub's id
	Token string `json:"token"`
}

// enter gets a token for client i, called name: one that was given, one signed here, or by a login through the
// simulator. A login that comes too often waits as long as it is told.
func (t *target) enter(ctx context.Context, name string, i int, role string) (person, error) {
	switch {
	case len(t.tokens) > 0:
		if i >= len(t.tokens) {
			return person{}, fmt.Errorf("-tokens has %d: one is needed for each client", len(t.tokens))
		}
		token := t.tokens[i]
		return person{name, subjectOf(token), token}, nil
	case t.keyID != "":
		token, err := t.sign(name, cmp.Or(role, "user"))
		return person{name, name, token}, err
	}
	for {
		p, err := t.login(ctx, name)
		r, limited := err.(*refusal) //nolint:errorlint // call returns it bare
		if !limited || r.Status != http.StatusTooManyRequests {
			return p, err
		}
		if err := sleep(ctx, max(r.retryAfter, 200*time.Millisecond)); err != nil {
			return p, err
		}
	}
}

// subjectOf reads whose a token is; checking it is the hub's business.
func subjectOf(token string) string {
	claims := jwt.MapClaims{}
	_, _, _ = jwt.NewParser().ParseUnverified(token, claims) // unreadable: the hub will say so
	user, _ := claims.GetSubject()
	return user
}

func (t *target) login(ctx context.Context, name string) (person, error) {
	var phone struct{ Code, RawData, Signature string }
	if err := t.call(ctx, http.MethodPost, t.sim+"/sim/login", nil, map[string]any{"user": name}, &phone); err != nil {
		return person{}, fmt.Errorf("simulator login: %w", err)
	}
	var got struct {
		Token string
		User  struct{ ID string }
	}
	body := map[string]any{"code": phone.Code, "rawData": phone.RawData, "signature": phone.Signature}
	if err := t.call(ctx, http.MethodPost, t.hub()+"/api/login", nil, body, &got); err != nil {
		return person{}, err
	}
	return person{name, got.User.ID, got.Token}, nil
}

// sign makes a token as the shop's own back end would.
func (t *target) sign(user, role string) (string, error) {
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "iss": "wxhub", "aud": "wxhub", "role": role, "jti": newID(),
		"iat": now.Unix(), "exp": now.Add(6 * time.Hour).Unix(),
	})
	token.Header["kid"] = t.keyID
	return token.SignedString(t.keySecret)
}

// broadcast publishes what body says and tells which place it got. A node that does not answer is left for the next
// one: the message's id makes saying it twice harmless.
func (t *target) broadcast(ctx context.Context, body map[string]any) (position, error) {
	var got struct {
		Results []struct {
			position
			Room, Error string
		}
	}
	for try := 1; ; try++ {
		err := t.call(ctx, http.MethodPost, t.hub()+"/api/admin/broadcast", t.admin(), body, &got)
		var no *refusal
		switch {
		case err == nil && (len(got.Results) != 1 || got.Results[0].Error != ""):
			return position{}, fmt.Errorf("broadcast: results %+v", got.Results)
		case err == nil:
			return got.Results[0].position, nil
		case errors.As(err, &no) || try > 2*len(t.urls) || ctx.Err() != nil || len(t.urls) == 1:
			return position{}, err
		}
		t.lost.Add(1)
	}
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

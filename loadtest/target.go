package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
)

// A target is the hub under test, and the simulator beside it.
type target struct {
	options
	http   *http.Client
	dialer websocket.Dialer
}

func newTarget(o options) *target {
	dial := (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}).DialContext
	return &target{
		options: o,
		http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			DialContext: dial, MaxIdleConnsPerHost: publishers, ForceAttemptHTTP2: true,
		}},
		dialer: websocket.Dialer{
			NetDialContext: dial, HandshakeTimeout: 15 * time.Second,
			ReadBufferSize: 1 << 10, WriteBufferSize: 512, WriteBufferPool: &sync.Pool{}, // a phone that mostly listens
		},
	}
}

func (t *target) close() { t.http.CloseIdleConnections() }

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

func (t *target) admin() http.Header { return http.Header{"X-Api-Key": {t.apiKey}} }

// A person is somebody with a phone.
type person struct {
	name  string // at the simulator; the user id where tokens are signed here
	user  string // the hub's id
	token string
}

// enter gets a token for the person called name: signed here, or by a login through the simulator. A login that
// comes too often waits as long as it is told.
func (t *target) enter(ctx context.Context, name string) (person, error) {
	if t.keyID != "" {
		token, err := t.sign(name)
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
	if err := t.call(ctx, http.MethodPost, t.url+"/api/login", nil, body, &got); err != nil {
		return person{}, err
	}
	return person{name, got.User.ID, got.Token}, nil
}

// sign makes a token as the shop's own back end would.
func (t *target) sign(user string) (string, error) {
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "iss": "wxhub", "aud": "wxhub", "role": "user", "jti": newID(),
		"iat": now.Unix(), "exp": now.Add(6 * time.Hour).Unix(),
	})
	token.Header["kid"] = t.keyID
	return token.SignedString(t.keySecret)
}

// broadcast says payload in the room and tells which place it got.
func (t *target) broadcast(ctx context.Context, action string, payload json.RawMessage) (position, error) {
	var got struct {
		Results []struct {
			position
			Room, Error string
		}
	}
	body := map[string]any{"rooms": []string{t.room}, "action": action, "payload": payload}
	if err := t.call(ctx, http.MethodPost, t.url+"/api/admin/broadcast", t.admin(), body, &got); err != nil {
		return position{}, err
	}
	if len(got.Results) != 1 || got.Results[0].Error != "" {
		return position{}, fmt.Errorf("broadcast: results %+v", got.Results)
	}
	return got.Results[0].position, nil
}

// dial opens a socket in the room, from a position on if there is one.
func (t *target) dial(ctx context.Context, token string, from position) (*websocket.Conn, error) {
	room := t.room
	if from.Epoch != "" {
		room += "@" + from.Epoch + ":" + strconv.FormatUint(from.Offset, 10)
	}
	address := "ws" + strings.TrimPrefix(t.url, "http") + "/ws?room=" + url.QueryEscape(room)
	ws, answer, err := t.dialer.DialContext(ctx, address, http.Header{"Authorization": {"Bearer " + token}})
	if err != nil && answer != nil {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)) // what could be read is enough for a message
		return nil, &refusal{Status: answer.StatusCode, Word: "handshake", Message: string(bytes.TrimSpace(text))}
	}
	return ws, err
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

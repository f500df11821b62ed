package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
)

const (
	bodyBytes  = 64 << 10 // of a request to /api; an admin's broadcast is the largest
	loginBytes = 16 << 10 // rawData and encryptedData have about 1 KiB each
	bodyDepth  = 32       // of JSON
)

// envelope is every answer of /api.
type envelope[T any] struct {
	Code    int    `json:"code" enum:"1" doc:"1: success (0: failure, see the error responses)"`
	Data    T      `json:"data"`
	Message string `json:"message" example:"ok"`
}

type reply[T any] struct{ Body envelope[T] }

// A body is the JSON object of a request.
type body[T any] struct{ Body T }

// empty is a request without body and parameters, or an answer without data.
type empty struct{}

// route describes an operation for the server and for the OpenAPI document.
type route struct {
	method, path string
	access       access
	tag, summary string
	description  string
	maxBody      int64 // 0: bodyBytes
	errors       []int // statuses beyond those that every route has
	// plain answers requests in the form that nearly all have; false: the general way does, for which r is as it came.
	plain func(w http.ResponseWriter, r *http.Request) bool
}

// handle registers one operation: who may not is refused before the body is read, and every answer has the envelope.
func handle[I, O any](s *Server, rt route, h func(context.Context, *I) (O, error)) {
	op := huma.Operation{
		OperationID: operationID(rt.method, rt.path),
		Method:      rt.method, Path: rt.path, Summary: rt.summary, Description: rt.description, Tags: []string{rt.tag},
		MaxBodyBytes: rt.maxBody, Errors: append([]int{http.StatusTooManyRequests, http.StatusInternalServerError}, rt.errors...),
		Middlewares: huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
			r, w := humachi.Unwrap(ctx)
			if e := rt.access.admit(requestOf(ctx.Context())); e != nil {
				s.fail(w, r, e)
				return
			}
			if rt.plain == nil || !rt.plain(w, r) {
				next(ctx)
			}
		}},
	}
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = bodyBytes
	}
	if _, ok := reflect.TypeFor[I]().FieldByName("Body"); ok {
		op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	switch rt.access {
	case users:
		op.Security = []map[string][]string{{"bearer": {}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	case admins, staff:
		op.Security = []map[string][]string{{"apiKey": {}}, {"bearer": {}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*reply[O], error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, s.problem(requestOf(ctx), err)
		}
		return &reply[O]{envelope[O]{1, out, "ok"}}, nil
	})
}

// operationID is "post-admin-broadcast" for POST /api/admin/broadcast.
func operationID(method, path string) string {
	words := strings.FieldsFunc(strings.TrimPrefix(path, "/api"), func(r rune) bool { return strings.ContainsRune("/{}", r) })
	return strings.ToLower(method) + "-" + strings.Join(words, "-")
}

// newAPI makes the part of the router that the OpenAPI document describes.
func newAPI(r chi.Router, version string) huma.API {
	c := huma.DefaultConfig("wxhub", version)
	c.CreateHooks = nil // no schema links in answers
	c.OnAddOperation = append(c.OnAddOperation, func(_ *huma.OpenAPI, op *huma.Operation) {
		if invalid := op.Responses["422"]; invalid != nil { // huma's own; ours is 400
			invalid.Description = http.StatusText(http.StatusBadRequest)
			op.Responses["400"] = invalid
			delete(op.Responses, "422")
		}
	})
	c.AllowAdditionalPropertiesByDefault = true
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "/api/openapi", "", ""
	strict := huma.Format{Marshal: marshal, Unmarshal: unmarshal}
	c.Formats = map[string]huma.Format{"application/json": strict, "json": strict}
	c.DefaultFormat = "application/json"
	c.Info.Description = "Real-time notification hub for WeChat mini-programs. Every answer has the envelope " +
		"`{code, data, message}`; a failure adds `error`, a stable word that the documents explain. " +
		"Amounts are integers of fen, times milliseconds since 1970."
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "The token of a login."},
		"apiKey": {Type: "apiKey", In: "header", Name: "X-API-Key", Description: "For the shop's own systems."},
	}
	c.Tags = []*huma.Tag{
		{Name: "login", Description: "For mini-programs: who somebody is."},
		{Name: "shop", Description: "For mini-programs: catalogue, orders, payment."},
		{Name: "admin", Description: "For admins and the shop's own systems."},
	}
	return humachi.New(r, c)
}

// marshal writes < > & as they are: people read these texts.
func marshal(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

var (
	errDepth = errors.New("JSON nested too deeply")
	errUTF8  = errors.New("not UTF-8")
)

// unmarshal refuses what would be read differently by somebody else, or costs too much to read. huma calls it twice:
// for a map, which it validates, and then for the struct that the handler gets.
func unmarshal(data []byte, v any) error {
	switch {
	case !utf8.Valid(data):
		return errUTF8
	case jsonDepth(data) > bodyDepth:
		return errDepth
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return sameReading(data, v)
}

// sameReading refuses a field of the struct that stands in the object twice, or in another spelling: encoding/json would
// take the last of them, whatever was validated.
func sameReading(data []byte, v any) error {
	t := reflect.TypeOf(v).Elem()
	if t.Kind() == reflect.Pointer { // a body that may be absent
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	seen := map[string]bool{}
	for name := range members(data) {
		for i := range t.NumField() {
			own, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			switch {
			case name == own && seen[own]:
				return fmt.Errorf("names %s twice", own)
			case name == own:
				seen[own] = true
			case strings.EqualFold(name, own):
				return fmt.Errorf("spells %s otherwise", own)
			}
		}
	}
	return nil
}

// jsonDepth counts brackets outside of strings; of text that is no JSON it gives some number.
func jsonDepth(data []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted:
			switch c {
			case '\\':
				i++
			case '"':
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// always200 serves front ends that treat every other status as a broken connection: the body tells them all. It stands
// outside of everything else, so that logs and figures keep the real status.
func always200(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ofAPI(r) {
			w = &okWriter{ResponseWriter: w}
		}
		next.ServeHTTP(w, r)
	})
}

// ofAPI tells whether a request is for /api, known there or not.
func ofAPI(r *http.Request) bool {
	return r.URL.Path == "/api" || strings.HasPrefix(r.URL.Path, "/api/")
}

type okWriter struct{ http.ResponseWriter }

func (w *okWriter) WriteHeader(status int) {
	if status >= 400 {
		status = http.StatusOK
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *okWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

package web

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
)

var plainBodies = []string{
	`{"rooms":["notice"],"action":"sale","payload":{"a":[1,"b",null],"c":"}"}}`,
	` { "rooms" : [ "a" , "b" ] , "action" : "销售" , "id" : "x-1" , "payload" : "t\"ext" } `,
	`{"action":"sale","rooms":["user:alice"]}`, `{"rooms":["a"],"action":"sale","payload":null}`, `{"rooms":["a"],"action":"sale","payload":-1.5e3}`,
}

var unusualBodies = []string{
	`{"rooms":[],"action":"sale"}`, `{"rooms":["a"]}`, `{"action":"sale"}`, `{"rooms":["a"],"action":""}`, `{"rooms":["a"],"action":"sale","all":true}`,
	`{"users":["u"],"action":"sale"}`, `{"rooms":["a"],"action":"sale","live":false}`, `{"rooms":["a"],"action":"s\u0061le"}`, `{"rooms":null,"action":"sale"}`,
	`{"rooms":["a"],"rooms":["b"],"action":"sale"}`, `{"Rooms":["a"],"action":"sale"}`, `{"rooms":["a"],"action":"sale","payload":}`,
	`{"rooms":["a"],"action":"sale","payload":{"a":}}`, `{"rooms":["a"],"action":"sale","payload":[1}`, `{"rooms":["a"],"action":"sale"} {}`,
	`{"rooms":["a"],"action":"sale","id":"no spaces"}`, `{"rooms":["a",1],"action":"sale"}`, `{"rooms":["a"],"action":"sale",}`, `{"rooms":["a"],"action":"welcome"}`,
	`{"rooms":["a"],"action":"sale","more":1}`, "{\"rooms\":[\"a\"],\"action\":\"sale\",\"payload\":\"\xff\"}", `{}`, ``, `null`, `[]`, `{"rooms":["a"],"action":"sale"`,
	`{"rooms":["a"],"action":"sale","payload":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
}

func TestPlainBroadcast_taken(t *testing.T) {
	for _, body := range plainBodies {
		if _, ok := parsePlainBroadcast([]byte(body)); !ok {
			t.Errorf("left to the general way: %s", body)
		}
	}
	for _, body := range unusualBodies {
		if b, ok := parsePlainBroadcast([]byte(body)); ok {
			t.Errorf("taken: %s as %+v", body, b)
		}
	}
}

// What is read as plain, the general way accepts too, and reads the same.
func FuzzPlainBroadcast(f *testing.F) {
	for _, body := range append(plainBodies, unusualBodies...) {
		f.Add([]byte(body))
	}
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schema := registry.Schema(reflect.TypeFor[broadcastRequest](), true, "broadcast")
	f.Fuzz(func(t *testing.T, body []byte) {
		plain, ok := parsePlainBroadcast(body)
		if !ok {
			return
		}
		var whole broadcastRequest
		var fields map[string]any
		if err := unmarshal(body, &whole); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if !reflect.DeepEqual(plain, whole) {
			t.Errorf("%q: %+v, not %+v", body, plain, whole)
		}
		if err := unmarshal(body, &fields); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		var result huma.ValidateResult
		huma.Validate(registry, schema, huma.NewPathBuffer(nil, 0), huma.ModeWriteToServer, fields, &result)
		if len(result.Errors) > 0 {
			t.Errorf("%q is taken: %v", body, result.Errors)
		}
		v := broadcastView{ID: "id", Results: []said{{Room: "a", Epoch: "e", Offset: 7}, {Room: "b", Error: "unavailable"}, {}}}
		text, err := json.Marshal(envelope[broadcastView]{1, v, "ok"})
		if err != nil || string(text)+"\n" != string(v.appendAnswer(nil)) {
			t.Errorf("the answer is %s, not %s", v.appendAnswer(nil), text)
		}
	})
}

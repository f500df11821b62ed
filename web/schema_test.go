package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"net/http"
	"net/http/httptest"
	"wxhub/web/docs"
)

// The documents that the server serves are held against everything that it says in these tests.

// A document is one of them, with its schemas compiled as they are needed.
type document struct {
	mu       sync.Mutex
	root     map[string]any
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema
}

func newDocument(text []byte) (*document, error) {
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	d := &document{compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	d.root, _ = root.(map[string]any)
	strict(root)
	return d, d.compiler.AddResource("document.json", root)
}

// strict refuses every property that a schema does not name: what is said must be in the document.
func strict(v any) {
	switch v := v.(type) {
	case map[string]any:
		if v["properties"] != nil && (v["additionalProperties"] == nil || v["additionalProperties"] == true) {
			v["additionalProperties"] = false
		}
		for _, inner := range v {
			strict(inner)
		}
	case []any:
		for _, inner := range v {
			strict(inner)
		}
	}
}

// holds tells why a text does not fit the schema at a place in the document.
func (d *document) holds(place string, text []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	schema := d.schemas[place]
	if schema == nil {
		var err error
		if schema, err = d.compiler.Compile("document.json#" + place); err != nil {
			return err
		}
		d.schemas[place] = schema
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

var asyncAPI = sync.OnceValues(func() (*document, error) {
	w := httptest.NewRecorder()
	docs.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/asyncapi.json", nil))
	return newDocument(w.Body.Bytes())
})

// pushSchemas are the schemas of what the server says by itself; what people say is a push and no more.
var pushSchemas = map[string]string{
	"welcome": "welcome", "purchase": "purchase", "order.paid": "orderPaid", "order.closed": "orderClosed", "order.refunded": "orderRefunded",
	"kf.message": "kfMessage", "kf.event": "kfEvent", "follow": "follow", "unfollow": "unfollow", "join": "joined", "leave": "left",
}

// CheckFrame complains about a frame of the socket that the AsyncAPI document does not have.
func CheckFrame(t testing.TB, text []byte) {
	t.Helper()
	d, err := asyncAPI()
	if err != nil {
		t.Error(err)
		return
	}
	var frame struct {
		Meta struct {
			Client string `json:"client"`
		} `json:"meta"`
		Data struct {
			Action string `json:"action"`
		} `json:"data"`
	}
	_ = json.Unmarshal(text, &frame)
	schema := "serverFrame"
	if own := pushSchemas[frame.Data.Action]; own != "" && frame.Meta.Client == "" {
		schema = own
	} else if frame.Data.Action != "" {
		schema = "push"
	}
	if err := d.holds("/components/schemas/"+schema, text); err != nil {
		t.Errorf("a frame is no %s of the AsyncAPI document: %v\n%s", schema, err, text)
	}
}

var openAPI struct {
	once sync.Once
	*document
	err error
}

// CheckAnswer complains about an answer of /api that the OpenAPI document does not have. serve answers requests.
func CheckAnswer(t testing.TB, serve http.Handler, method, path string, status int, text []byte) {
	t.Helper()
	openAPI.once.Do(func() {
		w := httptest.NewRecorder()
		serve.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/openapi.json", nil))
		openAPI.document, openAPI.err = newDocument(w.Body.Bytes())
	})
	if openAPI.err != nil {
		t.Error(openAPI.err)
		return
	}
	path, _, _ = strings.Cut(path, "?")
	paths, _ := openAPI.root["paths"].(map[string]any)
	template := path
	if paths[path] == nil {
		template = ""
		for one := range paths {
			if sameShape(path, one) {
				template = one
			}
		}
	}
	item, _ := paths[template].(map[string]any)
	operation, _ := item[strings.ToLower(method)].(map[string]any)
	if operation == nil {
		return // no operation, and so no promise
	}
	var failed struct {
		Code int `json:"code"`
	}
	if json.Unmarshal(text, &failed) == nil && failed.Code == 0 && status == http.StatusOK {
		return // ALWAYS_200
	}
	responses, _ := operation["responses"].(map[string]any)
	if responses[fmt.Sprint(status)] == nil {
		t.Errorf("%s %s answered %d, which its document does not have: %s", method, template, status, text)
		return
	}
	response, _ := responses[fmt.Sprint(status)].(map[string]any)
	content, _ := response["content"].(map[string]any)
	if len(content) == 0 {
		return
	}
	if content["application/json"] == nil {
		t.Errorf("%s %s has no JSON for %d: %v", method, template, status, content)
		return
	}
	escaped := strings.ReplaceAll(strings.ReplaceAll(template, "~", "~0"), "/", "~1")
	escaped = strings.NewReplacer("{", "%7B", "}", "%7D").Replace(escaped)
	place := fmt.Sprintf("/paths/%s/%s/responses/%d/content/application~1json/schema", escaped, strings.ToLower(method), status)
	if err := openAPI.holds(place, text); err != nil {
		t.Errorf("%s %s %d: the document says otherwise: %v\n%s", method, template, status, err, text)
	}
}

// sameShape tells whether a path is one of /api/orders/{outTradeNo} and the like.
func sameShape(path, template string) bool {
	parts, want := strings.Split(path, "/"), strings.Split(template, "/")
	if len(parts) != len(want) {
		return false
	}
	for i, w := range want {
		if w != parts[i] && !(strings.HasPrefix(w, "{") && parts[i] != "") {
			return false
		}
	}
	return true
}

// Every property of every answer's struct is in the document: an embedded one is easily lost.
func TestOpenAPI_everyField(t *testing.T) {
	s := newShop(t)
	status, _, text := s.send("GET", s.url+"/api/openapi.json", "", nil)
	d, err := newDocument(text)
	if status != 200 || err != nil {
		t.Fatal(status, err)
	}
	components, _ := d.root["components"].(map[string]any)
	schemas, _ := components["schemas"].(map[string]any)
	for name, fields := range map[string][]string{
		"LoginView": {"token", "expiresIn", "user"}, "AdminOrderView": {"outTradeNo", "state", "total", "refunded", "description", "quantity", "createdAt", "userId"},
	} {
		schema, _ := schemas[name].(map[string]any)
		properties, _ := schema["properties"].(map[string]any)
		for _, f := range fields {
			if properties[f] == nil {
				t.Errorf("%s has no %s", name, f)
			}
		}
	}
}

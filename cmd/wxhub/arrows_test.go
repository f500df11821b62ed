package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The house's arrows: which of our packages each of them may import. Tests of a package may reach further where
// the table says so; a package that is not in the table fails.
var arrows = map[string][]string{
	"wxhub/hub":                     {"wxhub/hub/socketio"},
	"wxhub/hub/testserver":          {"wxhub/hub"},
	"wxhub/hub/socketio":            {},
	"wxhub/hub/socketio/testserver": {"wxhub/hub/socketio"},
	"wxhub/wechat":                  {},
	"wxhub/wechat/sim":              {},
	"wxhub/store":                   {},
	"wxhub/web": {"wxhub/hub", "wxhub/wechat", "wxhub/store", "wxhub/web/docs", "wxhub/web/phone", "wxhub/web/console", "wxhub/web/sdk",
		"wxhub/web/jobs"}, // whose settings are its own: who is called when an order is paid,
	"wxhub/web/jobs":              {"wxhub/hub", "wxhub/wechat", "wxhub/store"},
	"wxhub/web/docs":              {},
	"wxhub/web/sdk":               {},
	"wxhub/web/phone":             {"wxhub/web/sdk"},
	"wxhub/web/console":           {},
	"wxhub/cmd/wxhub":             {"wxhub/hub", "wxhub/wechat", "wxhub/wechat/sim", "wxhub/store", "wxhub/web", "wxhub/web/jobs", "wxhub/web/docs"},
	"wxhub/loadtest":              {},
	"wxhub/loadtest/peer/gorilla": {},
}

// Tests play the whole shop, so these may import more than their package.
var testArrows = map[string][]string{
	"wxhub/wechat":   {"wxhub/wechat/sim"},
	"wxhub/web":      {"wxhub/web/jobs", "wxhub/wechat/sim"},
	"wxhub/web/jobs": {"wxhub/wechat/sim", "wxhub/web"},
}

// Libraries that belong to one room of the house.
var outside = map[string][]string{
	"github.com/gorilla/websocket": {"wxhub/hub", "wxhub/hub/socketio", "wxhub/loadtest", "wxhub/loadtest/peer/gorilla"},
	"github.com/redis/go-redis/":   {"wxhub/hub"},
	"database/sql":                 {"wxhub/store"},
	"github.com/jackc/pgx/":        {"wxhub/store"},
	"modernc.org/sqlite":           {"wxhub/store"},
	"github.com/golang-jwt/jwt/":   {"wxhub/web", "wxhub/loadtest", "wxhub/loadtest/peer/gorilla"},
}

func TestHouse_importArrows(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "wxhub/...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		allowed, known := arrows[p.ImportPath]
		if !known {
			t.Errorf("%s has no place in the house: add its arrows here or put the code elsewhere", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "wxhub/") && !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
			for library, homes := range outside {
				if strings.HasPrefix(imported, library) && !slices.Contains(homes, p.ImportPath) {
					t.Errorf("%s imports %s, which belongs to %v", p.ImportPath, imported, homes)
				}
			}
		}
		for _, imported := range append(p.TestImports, p.XTestImports...) {
			if strings.HasPrefix(imported, "wxhub/") && imported != p.ImportPath &&
				!slices.Contains(allowed, imported) && !slices.Contains(testArrows[p.ImportPath], imported) {
				t.Errorf("the tests of %s import %s", p.ImportPath, imported)
			}
		}
	}
	if seen < 8 {
		t.Fatalf("only %d packages seen", seen)
	}
}

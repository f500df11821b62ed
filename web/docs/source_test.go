package docs

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The documents are held against the sources: what the program can say must be explained.

// sources parses every Go file below the folders, tests left out.
func sources(t *testing.T, folders ...string) (files []*ast.File) {
	t.Helper()
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == "node_modules" {
				return fs.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			files = append(files, f)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

var wordPattern = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func literal(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	s, _ := strconv.Unquote(l.Value) // the parser has accepted it
	return s
}

// typeName is the last name of a type or function: Error of &web.Error{…}.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.IndexExpr:
		return typeName(e.X)
	}
	return ""
}

// errorWords finds the words where they are written down: in the types that carry one (refusal{"word", …},
// Disconnect{Word: "word"}, Error{Code: "word"}, said{Error: "word"}), where such a field is set, in calls of the
// writers, and as keys of the table of sentences.
func errorWords(files []*ast.File) map[string]bool {
	carriers := []string{"refusal", "Disconnect", "Error", "said"}
	fields := []string{"Word", "Code", "Error"}
	found := map[string]bool{}
	add := func(e ast.Expr) {
		if s := literal(e); wordPattern.MatchString(s) {
			found[s] = true
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if !slices.Contains(carriers, typeName(n.Type)) {
					return true
				}
				for i, e := range n.Elts {
					if kv, keyed := e.(*ast.KeyValueExpr); !keyed {
						if i == 0 {
							add(e)
						}
					} else if key, ok := kv.Key.(*ast.Ident); ok && slices.Contains(fields, key.Name) {
						add(kv.Value)
					}
				}
			case *ast.AssignStmt:
				for i, to := range n.Lhs {
					if field, ok := to.(*ast.SelectorExpr); ok && slices.Contains(fields, field.Sel.Name) && len(n.Lhs) == len(n.Rhs) {
						add(n.Rhs[i])
					}
				}
			case *ast.CallExpr:
				if typeName(n.Fun) == "writeError" {
					for _, a := range n.Args {
						add(a)
					}
				}
			case *ast.ValueSpec:
				if len(n.Names) == 1 && n.Names[0].Name == "sentences" && len(n.Values) == 1 {
					for _, e := range n.Values[0].(*ast.CompositeLit).Elts {
						add(e.(*ast.KeyValueExpr).Key)
					}
				}
			}
			return true
		})
	}
	return found
}

func TestErrors_everyWordHasItsSection(t *testing.T) {
	words := errorWords(sources(t, "hub", "web"))
	if len(words) < 30 {
		t.Fatalf("only %d error words were found in the sources: does this test still know where they stand?", len(words))
	}
	for _, lang := range languages {
		anchors := loadSite().guides[lang+"/errors"].anchors
		for word := range words {
			if !anchors[word] {
				t.Errorf("guides/%s/errors.md: no section for %q (### `%s` … {#%s})", lang, word, word, word)
			}
		}
		for anchor := range anchors {
			if wordPattern.MatchString(anchor) && !words[anchor] {
				t.Errorf("guides/%s/errors.md: nothing says %q any more", lang, anchor)
			}
		}
	}
}

// The AsyncAPI document names every word by which a frame is refused.
func TestAsyncAPI_everyRefusal(t *testing.T) {
	var document struct {
		Components struct {
			Schemas struct {
				Word struct {
					Examples []string `json:"examples"`
				} `json:"word"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(asyncAPI, &document); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range sources(t, "hub") {
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CompositeLit); ok && typeName(c.Type) == "refusal" && len(c.Elts) > 0 {
				if word := literal(c.Elts[0]); word != "" {
					found[word] = true
				}
			}
			return true
		})
	}
	if want := slices.Sorted(maps.Keys(found)); len(want) < 10 || !slices.Equal(document.Components.Schemas.Word.Examples, want) {
		t.Errorf("the examples of a word are %q, the sources have %q", document.Components.Schemas.Word.Examples, want)
	}
}

func TestSocket_everyCloseCode(t *testing.T) {
	text, err := os.ReadFile("../../hub/disconnect.go")
	if err != nil {
		t.Fatal(err)
	}
	catalogue := regexp.MustCompile(`Disconnect\{Code: (\d+), Word: "([a-z_]+)"\}`).FindAllSubmatch(text, -1)
	if len(catalogue) < 10 {
		t.Fatalf("%d close codes found in hub/disconnect.go", len(catalogue))
	}
	for _, lang := range languages {
		guide := string(loadSite().guides[lang+"/socket"].Source)
		for _, m := range catalogue {
			row := "| " + string(m[1]) + " | [`" + string(m[2]) + "`]"
			if !strings.Contains(guide, row) {
				t.Errorf("guides/%s/socket.md: no row %q", lang, row)
			}
		}
	}
}

func TestOperate_everySetting(t *testing.T) {
	known := map[string]bool{}
	for _, f := range sources(t, "cmd/wxhub") {
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Names) != 1 || v.Names[0].Name != "settingsTable" {
				return true
			}
			for _, row := range v.Values[0].(*ast.CompositeLit).Elts {
				known["WXHUB_"+literal(row.(*ast.CompositeLit).Elts[0])] = true
			}
			return false
		})
	}
	if len(known) < 20 {
		t.Fatalf("only %d settings were found in cmd/wxhub", len(known))
	}
	mention := regexp.MustCompile(`WXHUB_[A-Z0-9_]*[A-Z0-9]`)
	for name, g := range loadSite().guides {
		if g.Slug == "operate" {
			for setting := range known {
				if !strings.Contains(string(g.Source), "| `"+setting+"` |") {
					t.Errorf("%s: no row for %s", name, setting)
				}
			}
		}
		for _, m := range mention.FindAllString(string(g.Source), -1) {
			if !known[strings.TrimSuffix(m, "_FILE")] && m != "WXHUB_API_KEY" { // loadtest's own
				t.Errorf("%s mentions %s, which is no setting", name, m)
			}
		}
	}
}

// Every call that a guide names is served: its route stands in the sources of web.
func TestGuides_everyCallExists(t *testing.T) {
	served := map[string]bool{}
	for _, f := range sources(t, "web") {
		ast.Inspect(f, func(n ast.Node) bool {
			c, ok := n.(*ast.CompositeLit)
			if !ok || typeName(c.Type) != "route" {
				return true
			}
			var method, path string
			for _, e := range c.Elts {
				kv, ok := e.(*ast.KeyValueExpr)
				if !ok {
					continue
				}
				switch kv.Key.(*ast.Ident).Name {
				case "method":
					method = strings.ToUpper(strings.TrimPrefix(typeName(kv.Value), "Method"))
				case "path":
					path = literal(kv.Value)
				}
			}
			served[method+" "+path] = true
			return true
		})
	}
	if len(served) < 10 {
		t.Fatalf("only %v were found in web: does this test still know how routes are written?", served)
	}
	call := regexp.MustCompile("`(GET|POST|PATCH|DELETE) (/api/[^`? ]*[^`? .…])`")
	for name, g := range loadSite().guides {
		for _, m := range call.FindAllStringSubmatch(string(g.Source), -1) {
			if c := m[1] + " " + m[2]; !served[c] {
				t.Errorf("%s mentions %s, which nothing serves", name, c)
			}
		}
	}
}

// Every test that the page on the articles names is there.
func TestArticles_everyTestExists(t *testing.T) {
	there := map[string]bool{}
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "node_modules" {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, lang := range languages {
		named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(loadSite().guides[lang+"/articles"].Source, -1)
		if len(named) < 40 {
			t.Errorf("guides/%s/articles.md names %d tests", lang, len(named))
		}
		for _, m := range named {
			if !there[string(m[1])] {
				t.Errorf("guides/%s/articles.md names %s, which is nowhere", lang, m[1])
			}
		}
	}
}

package docs

import (
	"bytes"
	"errors"
	"html/template"
	"net/url"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// The guides, in reading order.
var slugs = []string{
	"quickstart", "login", "socket", "socketio", "pay", "push", "mail", "hooks", "simulator", "admin", "articles", "operate", "loadtest", "capacity", "errors", "troubleshooting",
}

// A guide is one Markdown page in one language.
type guide struct {
	Lang, Slug string
	Title      string // its first heading
	Summary    string // its first paragraph, as text
	Sections   []section
	Source     []byte
	Body       template.HTML // everything after the first heading
	Next       *guideLink

	anchors map[string]bool
}

// A section is a heading of the second or third level.
type section struct {
	ID, Title string
	Level     int
}

type guideLink struct{ Slug, Title string }

// markdown reads the tables and explicit heading ids ("## Title {#id}") that the guides use. Raw HTML stays out.
var markdown = goldmark.New(
	goldmark.WithExtensions(extension.Table, extension.Strikethrough),
	goldmark.WithParserOptions(parser.WithAttribute(), parser.WithAutoHeadingID()),
)

func renderGuide(lang, slug string, src []byte) (*guide, error) {
	g := &guide{Lang: lang, Slug: slug, Source: src, anchors: map[string]bool{}}
	doc := markdown.Parser().Parse(text.NewReader(src))
	title, ok := doc.FirstChild().(*ast.Heading)
	if !ok || title.Level != 1 {
		return nil, errors.New("a guide begins with its title (# …)")
	}
	g.Title = plainText(title, src)
	if lead, ok := title.NextSibling().(*ast.Paragraph); ok {
		g.Summary = plainText(lead, src)
	}
	doc.RemoveChild(doc, title)
	err := ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			id := headingID(n)
			g.anchors[id] = true
			if n.Level <= 3 {
				g.Sections = append(g.Sections, section{id, plainText(n, src), n.Level})
			}
		case *ast.Link:
			n.Destination = []byte(guideURL(lang, string(n.Destination)))
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := markdown.Renderer().Render(&b, src, doc); err != nil {
		return nil, err
	}
	// Wide tables scroll inside their own box; the source is ours and raw HTML is off.
	body := strings.ReplaceAll(b.String(), "<table>", `<div class="wide"><table>`)
	body = strings.ReplaceAll(body, "</table>", "</table></div>")
	g.Body = template.HTML(body) //nolint:gosec // rendered from an embedded file
	return g, nil
}

// guideURL turns a link between Markdown files into one between pages.
func guideURL(lang, to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || strings.HasPrefix(u.Path, "/") || u.Path == "" {
		return to
	}
	if slug, ok := strings.CutSuffix(u.Path, ".md"); ok {
		if rest, ok := strings.CutPrefix(slug, "../"); ok { // ../en/pay.md
			u.Path = "/docs/" + rest
		} else {
			u.Path = "/docs/" + lang + "/" + slug
		}
	}
	return u.String()
}

func headingID(h *ast.Heading) string {
	if v, ok := h.AttributeString("id"); ok {
		if b, ok := v.([]byte); ok {
			return string(b)
		}
	}
	return ""
}

// plainText is what a node says without its marks.
func plainText(n ast.Node, src []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // the walker returns no error
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Text:
			b.Write(n.Segment.Value(src))
			if n.SoftLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(n.Value)
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

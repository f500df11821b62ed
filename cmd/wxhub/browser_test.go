package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A browser is a page in a headless Chromium. Exceptions, and requests that leave this machine, fail the test.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func newBrowser(t *testing.T, width, height int) browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("skipped: no Chromium on this machine (make deps installs it)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(width, height),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("lang", "zh-CN"), chromedp.Flag("accept-lang", "zh-CN"), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var complaints []string
	err := chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, fmt.Sprintf("exception: %+v", e.ExceptionDetails))
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; !strings.HasPrefix(u, "http://127.0.0.1:") && !strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "blob:") {
				complaints = append(complaints, "the page asks for "+u)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range complaints {
			t.Error(c)
		}
	})
	return browser{t, ctx}
}

func (b browser) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.keep("failed")
		b.t.Fatalf("%s: %v", what, err)
	}
}

func (b browser) text(selector string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
	if err != nil {
		b.t.Fatalf("text of %s: %v", selector, err)
	}
	return text
}

func (b browser) count(selector string) int {
	b.t.Helper()
	n, err := chromedp.Run(b.ctx, chromedp.Evaluate[int](fmt.Sprintf("document.querySelectorAll(%q).length", selector)))
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// keep stores what the browser shows where WXHUB_SCREENSHOTS names a folder, for people to look at.
func (b browser) keep(name string) {
	b.t.Helper()
	dir := os.Getenv("WXHUB_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func see(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.WaitVisible(chromedp.CSS(selector))
}

func click(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(selector))
}

// on is the selector of something on the left or the right phone.
func on(side, id string) string {
	return `[data-testid="phone-` + side + `"] [data-testid="` + id + `"]`
}

// A person buys on the left phone; the right one sees the notice, by the real SDK over the real socket.
func TestPhone_buyAndSee(t *testing.T) {
	b := newBrowser(t, 1280, 900)
	p := startDemo(t, nil)
	b.do("the phones come up", chromedp.Navigate(p.hub+"/phone/"), see(on("left", "buy-tea")),
		see(on("left", "socket-state")+`[data-state="connected"]`), see(on("right", "socket-state")+`[data-state="connected"]`))
	b.keep("phones")
	b.do("the pay sheet", click(on("left", "buy-tea")), see(on("left", "pay-sheet")))
	b.keep("pay-sheet")
	b.do("the toast on the right", click(on("left", "pay-confirm")), see(on("right", "toast")))
	toast := b.text(on("right", "toast"))
	b.keep("toast")
	if !strings.Contains(toast, "**") || !strings.Contains(toast, "龙井") {
		t.Errorf("the toast says %q", toast)
	}
	if n := b.count(on("right", "notice-item")); n != 1 {
		t.Errorf("the right phone lists %d notices", n)
	}
}

// write types into a field. (chromedp.SendKeys reads the node while the page changes it.)
func write(selector, text string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(chromedp.Focus(chromedp.CSS(selector), chromedp.NodeVisible), chromedp.KeyEvent(text))
}

func deskID(id string) string { return `[data-testid="` + id + `"]` }

// Phone and console together: a person buys and asks; the staff refunds and answers, and the person sees both.
func TestConsole_refundAndReply(t *testing.T) {
	phones := newBrowser(t, 1280, 900)
	desk := newBrowser(t, 1280, 900)
	p := startDemo(t, nil)
	phones.do("the phones come up", chromedp.Navigate(p.hub+"/phone/"), see(on("left", "buy-mug")),
		see(on("left", "socket-state")+`[data-state="connected"]`))
	phones.do("a purchase", click(on("left", "buy-mug")), see(on("left", "pay-confirm")), click(on("left", "pay-confirm")),
		see(on("left", "pay-done")), click(on("left", "pay-done")), chromedp.WaitNotPresent(chromedp.CSS(on("left", "pay-sheet"))))
	phones.do("a question", click(on("left", "tab-chat")), see(on("left", "chat-input")), write(on("left", "chat-input"), "几点发货？"),
		click(on("left", "chat-send")), see(on("left", "chat-item")+`[data-from="shop"]`)) // the rule answers

	desk.do("the login", chromedp.Navigate(p.hub+"/console/"), see(deskID("login-submit")),
		write(deskID("login-user"), "admin"), write(deskID("login-password"), p.admin), click(deskID("login-submit")), see(deskID("stat-sockets")))
	desk.keep("console-overview")

	var orders []struct{ OutTradeNo, UserID string }
	p.ask("GET", "/api/admin/orders", "key:"+p.apiKey, nil).into(t, &orders)
	if len(orders) != 1 {
		t.Fatalf("orders: %+v", orders)
	}
	no := orders[0].OutTradeNo
	desk.do("the refund", click(deskID("nav-orders")), see(deskID("refund-"+no)), click(deskID("refund-"+no)), see(deskID("refund-confirm")))
	desk.keep("console-refund")
	desk.do("its confirmation", click(deskID("refund-confirm")), see(deskID("refund-done")), click(deskID("refund-close")))
	p.wait("the refund", func() bool {
		var o []struct{ State string }
		p.ask("GET", "/api/admin/orders", "key:"+p.apiKey, nil).into(t, &o)
		return o[0].State == "refunded"
	})

	var conversations []struct{ ID string }
	p.ask("GET", "/api/admin/conversations", "key:"+p.apiKey, nil).into(t, &conversations)
	if len(conversations) != 1 {
		t.Fatalf("conversations: %+v", conversations)
	}
	desk.do("the answer", click(deskID("nav-inbox")), see(deskID("conversation-"+conversations[0].ID)), click(deskID("conversation-"+conversations[0].ID)),
		see(deskID("talk-item")), write(deskID("reply-input"), "今天五点前"), click(deskID("reply-send")))
	phones.do("the answer on the phone", see(on("left", "chat-item")+`[data-from="shop"]:nth-last-child(1)`))
	p.wait("the answer's text on the phone", func() bool {
		return strings.Contains(phones.text(`[data-testid="phone-left"]`), "今天五点前")
	})
	phones.do("my orders", click(on("left", "tab-me")), see(on("left", "order-item")))
	p.wait("the refund on the phone", func() bool {
		return strings.Contains(phones.text(`[data-testid="phone-left"]`), "退款")
	})
	desk.keep("console-inbox")
	phones.keep("phones-refunded")
}

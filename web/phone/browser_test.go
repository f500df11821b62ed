package phone_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

type step = chromedp.Action[chromedp.Void]

// A tab is a page in a headless Chromium whose complaints (exceptions, warnings, refused loads) fail the test.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// browse opens a tab. The server it looks at is started before it, so that it outlives the page, which would complain.
func browse(t *testing.T, lang string, width, height int) tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if path, err = exec.LookPath("google-chrome"); err != nil {
			t.Skip("skipped: no chromium on this machine")
		}
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(width, height),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", lang), chromedp.Flag("accept-lang", lang), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var complaints []string
	err = chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, fmt.Sprintf("%+v", e.ExceptionDetails))
		case *runtime.EventConsoleAPICalled:
			for _, arg := range e.Args {
				complaints = append(complaints, fmt.Sprintf("console: %s", arg.Value))
			}
		case *log.EventEntryAdded:
			complaints = append(complaints, fmt.Sprintf("%+v", e.Entry))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range complaints {
			t.Errorf("the browser complains: %s", c)
		}
	})
	b := tab{t, ctx}
	b.do(chromedp.EmulateViewport(int64(width), int64(height)))
	return b
}

func (b tab) do(steps ...step) {
	b.t.Helper()
	for i, s := range steps {
		ctx, cancel := context.WithTimeout(b.ctx, 90*time.Second) // other packages compile meanwhile
		err := chromedp.Do(ctx, s)
		cancel()
		if err != nil {
			b.t.Fatalf("step %d: %v", i+1, err)
		}
	}
}

func (b tab) text(selector string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 90*time.Second) // other packages compile meanwhile
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
	if err != nil {
		b.t.Fatalf("text of %s: %v", selector, err)
	}
	return strings.Join(strings.Fields(text), " ")
}

func (b tab) number(script string) int {
	b.t.Helper()
	n, err := chromedp.Run(b.ctx, chromedp.Evaluate[int](script))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return n
}

func (b tab) count(selector string) int {
	b.t.Helper()
	return b.number(fmt.Sprintf("document.querySelectorAll(%q).length", selector))
}

// keep stores a picture of the page where WXHUB_SCREENSHOTS names a folder, for people to look at.
func (b tab) keep(name string) {
	b.t.Helper()
	dir := os.Getenv("WXHUB_SCREENSHOTS")
	if dir == "" {
		return
	}
	b.do(chromedp.Sleep(600 * time.Millisecond)) // what slides has arrived
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// on is the selector of something on one phone.
func on(side, id string, more ...string) string {
	return `[data-testid="phone-` + side + `"] [data-testid="` + id + `"]` + strings.Join(more, "")
}

func click(side, id string) step { return chromedp.Click(chromedp.CSS(on(side, id))) }

func see(selector string) step { return chromedp.WaitVisible(chromedp.CSS(selector)) }

func gone(selector string) step { return chromedp.WaitNotPresent(chromedp.CSS(selector)) }

// write types into a field. (chromedp.SendKeys reads the node while the page changes it.)
func write(side, id, text string) step {
	return chromedp.Steps(chromedp.Focus(chromedp.CSS(on(side, id)), chromedp.NodeVisible), chromedp.KeyEvent(text))
}

func inState(side, state string) step {
	return see(on(side, "socket-state", `[data-state="`+state+`"]`))
}

// One buys, the other sees it; then the chat, the orders and the language.
func TestPage_buyAndSee(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	b.do(chromedp.Navigate(f.URL+"/phone/"), inState("left", "connected"), inState("right", "connected"), see(on("left", "buy-tea")))
	b.keep("desktop-zh")
	b.do(click("left", "buy-tea"), see(on("left", "pay-sheet")))
	b.keep("desktop-pay-sheet")
	b.do(click("left", "pay-confirm"), see(on("right", "toast")))
	if toast := b.text(on("right", "toast")); !strings.Contains(toast, "** 刚刚购买了 明前龙井 50g") {
		t.Errorf("the toast says %q", toast)
	}
	b.keep("desktop-toast")
	for _, side := range []string{"left", "right"} {
		if n := b.count(on(side, "notice-item")); n != 1 {
			t.Errorf("the %s phone lists %d notices", side, n)
		}
	}
	b.do(click("right", "tab-feed"), see(on("right", "notice-item")), gone(on("left", "pay-done")),
		click("left", "tab-me"), see(on("left", "mail-item")), see(on("left", "order-item", `[data-state="paid"]`)))
	b.keep("desktop-me-feed")
	b.do(click("right", "tab-chat"), write("right", "chat-input", "什么时候发货？"), click("right", "chat-send"),
		see(on("right", "chat-item", `[data-from="shop"]`)))
	b.keep("desktop-chat")
	if n := b.count(on("right", "chat-item")); n != 2 {
		t.Errorf("the chat shows %d lines", n)
	}
	b.do(chromedp.Click(chromedp.CSS(`[data-testid="lang-switch"]`)), click("left", "tab-shop"), click("right", "tab-feed"))
	const english = "Two phones, one little shop"
	if title := b.text("h1"); title != english {
		t.Errorf("in English the page says %q", title)
	}
	b.keep("desktop-en")
	b.do(chromedp.Reload(), inState("left", "connected"), click("left", "tab-feed"), see(on("left", "notice-item")), // from the history
		click("left", "tab-me"), see(on("left", "mail-item")))
	if title := b.text("h1"); title != english {
		t.Errorf("after a reload the page says %q", title)
	}
}

// A phone without network misses a purchase and has it when it is back, once.
func TestPage_airplane(t *testing.T) {
	f, b := newFake(t), browse(t, "en-US", 1280, 900)
	b.do(chromedp.Navigate(f.URL+"/phone/"), inState("left", "connected"), inState("right", "connected"), see(on("left", "buy-mug")),
		click("right", "tab-me"), click("right", "airplane"), inState("right", "connecting"),
		click("left", "buy-mug"), see(on("left", "pay-sheet")), click("left", "pay-confirm"), see(on("left", "toast")))
	if n := b.count(on("right", "notice-item")); n != 0 {
		t.Fatalf("a phone without network heard %d notices", n)
	}
	b.keep("desktop-airplane")
	b.do(click("right", "airplane"), inState("right", "connected"), click("right", "tab-feed"), see(on("right", "notice-item")))
	if n := b.count(on("right", "notice-item")); n != 1 {
		t.Errorf("the returned phone lists %d notices", n)
	}
	if n := b.count(on("right", "toast")); n != 0 {
		t.Errorf("what was missed slides in %d times", n)
	}
	b.keep("desktop-recovered")
}

// Whatever an admin broadcasts, the phones show it as text and go on.
func TestPage_anyPush(t *testing.T) {
	f, b := newFake(t), browse(t, "en-US", 1280, 900)
	b.do(chromedp.Navigate(f.URL+"/phone/"), inState("left", "connected"), inState("right", "connected"), see(on("left", "buy-mug")), click("left", "tab-feed"))
	payloads := []any{nil, 7, "text", []int{1}, map[string]any{"buyer": 7}, map[string]any{"buyer": ""}, map[string]any{"buyer": "<img src=x>", "product": strings.Repeat("x", 2000)}, map[string]any{"text": []string{"a"}}}
	f.mu.Lock()
	for _, action := range []string{"purchase", "news"} {
		for _, payload := range payloads {
			f.publish("notice", action, payload)
		}
	}
	f.publish("notice", "news", "the end")
	f.mu.Unlock()
	b.do(see(on("left", "notice-item") + fmt.Sprintf(":nth-child(%d)", 2*len(payloads)+1)))
	if first := b.text(on("left", "notice-item")); !strings.Contains(first, "the end") {
		t.Errorf("the newest says %q", first)
	}
	if high := b.number(`Math.max(...[...document.querySelectorAll('[data-testid="notice-item"]')].map(e => e.offsetHeight))`); high > 160 {
		t.Errorf("a notice is %d high", high)
	}
}

// The phone changes hands: another person signs in, with orders and a chat of their own.
func TestPage_swap(t *testing.T) {
	f, b := newFake(t), browse(t, "en-US", 1280, 900)
	b.do(chromedp.Navigate(f.URL+"/phone/"), inState("left", "connected"), inState("right", "connected"), see(on("left", "buy-mug")),
		click("left", "buy-mug"), see(on("left", "pay-sheet")), click("left", "pay-cancel"), gone(on("left", "pay-sheet")),
		click("left", "tab-me"), see(on("left", "order-item")))
	before := b.text(`[data-testid="phone-left"] .person`)
	b.do(click("left", "swap"), see(on("left", "buy-mug")), inState("left", "connected"), click("left", "tab-me"))
	if after := b.text(`[data-testid="phone-left"] .person`); after == before {
		t.Errorf("still %q", after)
	}
	if n := b.count(on("left", "order-item")); n != 0 {
		t.Errorf("the new person sees %d orders of the former", n)
	}
	open := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.sockets)
	}
	for end := time.Now().Add(5 * time.Second); open() != 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d sockets are open, want one of each person", open())
		}
	}
}

// Cancelling with the keyboard pays nothing and gives the shop back.
func TestPage_cancel(t *testing.T) {
	f, b := newFake(t), browse(t, "en-US", 1280, 900)
	b.do(chromedp.Navigate(f.URL+"/phone/"), inState("left", "connected"), see(on("left", "buy-tea")),
		chromedp.Focus(chromedp.CSS(on("left", "buy-tea"))), chromedp.KeyEvent("\r"), see(on("left", "pay-sheet")))
	if sheet := b.text(on("left", "pay-sheet")); !strings.Contains(sheet, "Longjing tea") {
		t.Errorf("in English the sheet says %q", sheet)
	}
	b.do(chromedp.KeyEvent("\x1b"), gone(on("left", "pay-sheet")),
		click("left", "tab-me"), see(on("left", "order-item", `[data-state="paying"]`)))
	if n := b.count(on("right", "notice-item")); n != 0 {
		t.Errorf("a cancelled payment was told %d times", n)
	}
}

// On a small screen one phone is in front; the other tells that something came.
func TestPage_smallScreen(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 390, 844)
	b.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile),
		chromedp.Navigate(f.URL+"/phone/"), inState("left", "connected"), see(on("left", "buy-tea")),
		chromedp.WaitNotVisible(chromedp.CSS(on("right", "socket-state"))))
	if wide := b.number("document.documentElement.scrollWidth"); wide > 390 {
		t.Errorf("the page is %d wide", wide)
	}
	b.keep("small-shop")
	b.do(click("left", "buy-tea"), see(on("left", "pay-sheet")))
	b.keep("small-pay-sheet")
	b.do(click("left", "pay-confirm"), see("#tab-right .dot"))
	b.keep("small-toast")
	b.do(chromedp.Click(chromedp.CSS("#tab-right")), click("right", "tab-feed"), see(on("right", "notice-item")))
	b.keep("small-feed")
	b.do(click("right", "tab-me"))
	b.keep("small-me")
	b.do(click("right", "tab-chat"), write("right", "chat-input", "你好"), click("right", "chat-send"), see(on("right", "chat-item", `[data-from="shop"]`)))
	b.keep("small-chat")
	b.do(chromedp.Click(chromedp.CSS(`[data-testid="lang-switch"]`)), click("right", "tab-shop"))
	b.keep("small-en")
}

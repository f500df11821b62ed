package console_test

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

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

type step = chromedp.Action[chromedp.Void]

// A tab is a page in a headless Chromium whose complaints (exceptions, warnings, refused loads) fail the test.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// browse opens a tab. The server it looks at is started before it, so that it outlives the page. What the test causes on purpose is named by words of the complaint.
func browse(t *testing.T, lang string, width, height int, expected ...string) tab {
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
	complain := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		for _, word := range expected {
			if strings.Contains(text, word) {
				return
			}
		}
		mu.Lock()
		defer mu.Unlock()
		complaints = append(complaints, text)
	}
	err = chromedp.Listen(ctx, func(ev any) {
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			complain("%+v", e.ExceptionDetails)
		case *runtime.EventConsoleAPICalled:
			for _, arg := range e.Args {
				complain("console: %s", arg.Value)
			}
		case *log.EventEntryAdded:
			complain("%s %s", e.Entry.Text, e.Entry.URL)
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
		ctx, cancel := context.WithTimeout(b.ctx, 90*time.Second)
		err := chromedp.Do(ctx, s)
		cancel()
		if err != nil {
			b.keep("failed-" + strings.ReplaceAll(b.t.Name(), "/", "-"))
			b.t.Fatalf("step %d: %v", i+1, err)
		}
	}
}

func (b tab) text(selector string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 90*time.Second)
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

// until waits for a text to say something: figures and lists change by themselves.
func (b tab) until(selector, want string) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		text := b.text(selector)
		if strings.Contains(text, want) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s says %q, want %q", selector, text, want)
		}
	}
}

// overwrite types in place of what stands there.
func (b tab) overwrite(testid, text string) {
	b.t.Helper()
	b.number(fmt.Sprintf("document.querySelector(%q).select() ?? 0", id(testid)))
	b.do(write(testid, text))
}

// keep stores a picture of the page where WXHUB_SCREENSHOTS names a folder, for people to look at.
func (b tab) keep(name string) {
	b.t.Helper()
	dir := os.Getenv("WXHUB_SCREENSHOTS")
	if dir == "" {
		return
	}
	time.Sleep(400 * time.Millisecond) // what slides has arrived
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func id(testid string) string { return `[data-testid="` + testid + `"]` }

func click(testid string) step { return chromedp.Click(chromedp.CSS(id(testid))) }

func see(selector string) step { return chromedp.WaitVisible(chromedp.CSS(selector)) }

func gone(selector string) step { return chromedp.WaitNotPresent(chromedp.CSS(selector)) }

// write types into a field. (chromedp.SendKeys reads the node while the page changes it.)
func write(testid, text string) step {
	return chromedp.Steps(chromedp.Focus(chromedp.CSS(id(testid)), chromedp.NodeVisible), chromedp.KeyEvent(text))
}

func press(key string) step { return chromedp.KeyEvent(key) }

// logIn comes in by the keyboard alone.
func (b tab) logIn(f *fake) {
	b.t.Helper()
	b.do(chromedp.Navigate(f.URL+"/console/"), see(id("login-user")), write("login-user", "admin"), press(kb.Tab))
	b.do(write("login-password", "right"), press(kb.Enter), see(id("stat-sockets")), see(id("line")+`[data-state="connected"]`))
}

func TestConsole_login(t *testing.T) {
	f, b := newFake(t), browse(t, "en-US", 1280, 900, "status of 401")
	b.do(chromedp.Navigate(f.URL+"/console/"), see(id("login-user")))
	b.keep("login-en")
	b.do(write("login-user", "admin"), write("login-password", "wrong"), click("login-submit"), see(id("failure")))
	if text := b.text(id("failure")); !strings.Contains(text, "password is wrong") || !strings.Contains(text, "bad_login") {
		t.Errorf("the refusal says %q", text)
	}
	b.keep("login-refused-en")
	b.logIn(f)
	f.mu.Lock()
	f.token = "" // it expired
	f.mu.Unlock()
	b.do(see(id("login-user")))
	b.until("form", "Your session has ended")
}

func TestConsole_figures(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	b.logIn(f)
	b.until(id("stat-sockets"), "12")
	b.do(see("figure canvas"), see("table tbody tr:nth-child(2)"))
	time.Sleep(4500 * time.Millisecond) // two more samples make a line
	if n := b.number(`document.querySelectorAll("figure canvas").length`); n != 2 {
		t.Errorf("%d plots", n)
	}
	if rate := b.text(id("stat-published")); rate == "0" || rate == "" {
		t.Errorf("published per second: %q", rate)
	}
	b.keep("overview-zh")
	b.do(click("lang-switch"))
	b.until("h1", "Overview")
	b.keep("overview-en")
	b.do(chromedp.Reload(), see(id("stat-sockets"))) // still logged in, still English
	b.until("h1", "Overview")
}

func TestConsole_room(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	b.logIn(f)
	b.do(click("nav-rooms"), see(id("room-notice")))
	b.keep("rooms-zh")
	b.do(click("room-notice"), see(id("room-message")), see(".stream .line[data-state=connected]"))
	f.mu.Lock()
	push := f.push("notice", 3, "purchase", map[string]any{"buyer": "丁**", "product": "帆布通勤包"})
	f.notice = append(f.notice, push)
	f.say("notice", push)
	f.mu.Unlock()
	b.until(id("room-message"), "丁**")
	if n := b.number(`document.querySelectorAll('[data-testid="room-message"]').length`); n != 3 {
		t.Errorf("%d messages", n)
	}
	b.keep("room-zh")
}

func TestConsole_broadcast(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	b.logIn(f)
	b.do(click("nav-broadcast"), see(id("broadcast-payload")))
	b.keep("broadcast-zh")
	b.do(click("sample-purchase"))
	b.until(id("preview"), "小** 刚刚购买了 明前龙井 50g")
	b.do(write("broadcast-payload", "]"))
	b.until("form", "这不是 JSON")
	b.keep("broadcast-bad-zh")
	b.do(click("sample-purchase"), write("broadcast-rooms", "room:tea-lovers, room:live.7"), press(kb.Enter))
	b.until(id("broadcast-send"), "发到 3 个房间")
	if f.done("broadcast") {
		t.Error("Enter in a field sent it")
	}
	b.do(click("broadcast-send"), see(id("broadcast-result")))
	if !f.done("broadcast [notice room:tea-lovers room:live.7]") {
		t.Errorf("asked: %q", f.asked)
	}
	b.do(chromedp.ScrollIntoView(chromedp.CSS(id("broadcast-result"))))
	b.keep("broadcast-result-zh")
	// As it was typed, which no number of JavaScript could hold; and what is new has an id of its own.
	const typed = `{"big": 12345678901234567890,  "one": 1.0}`
	b.overwrite("broadcast-payload", typed)
	b.do(click("broadcast-send"))
	for end := time.Now().Add(10 * time.Second); !f.done("payload " + typed); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("asked: %q", f.asked)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) != 6 || f.asked[1] == f.asked[4] {
		t.Errorf("asked: %q", f.asked)
	}
}

func TestConsole_refund(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900, "status of 404")
	b.logIn(f)
	const order = "2026112114030001"
	b.do(click("nav-orders"), see(id("refund-"+order)))
	b.keep("orders-zh")
	b.do(click("refund-"+order), see(id("refund-confirm")))
	b.until(id("refund-confirm"), "确认退款 ¥128.00")
	b.do(chromedp.Click(chromedp.CSS(`[data-testid="refund-dialog"] .t-radio:last-of-type`)), see(id("refund-amount")))
	b.overwrite("refund-amount", "200")
	b.until(id("refund-dialog"), "最多还能退 ¥128.00")
	b.keep("refund-too-much-zh")
	b.overwrite("refund-amount", "12.8")
	b.do(write("refund-reason", "杯口有划痕"))
	b.until(id("refund-confirm"), "确认退款 ¥12.80")
	b.do(press(kb.Enter))
	if f.done("refund") {
		t.Error("Enter in a field gave money back")
	}
	b.keep("refund-zh")
	b.do(click("refund-confirm"), see(id("refund-done")))
	b.keep("refund-done-zh")
	if !f.done("refund " + order + " 1280 杯口有划痕") {
		t.Errorf("asked: %q", f.asked)
	}
	b.do(click("refund-close"), gone(id("refund-dialog")))
	b.until(id("order-"+order), "已退 ¥12.80")
	b.do(chromedp.Click(chromedp.CSS(id("order-"+order)+" .open")), see(id("order-details")))
	b.until(id("order-details"), "杯口有划痕")
	b.keep("order-zh")
	b.do(press(kb.Escape), gone(id("order-details")))
}

func TestConsole_reply(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	b.logIn(f)
	b.do(click("nav-inbox"), see(id("conversation-c1")))
	b.until(id("conversation-c1"), "2")
	b.do(click("conversation-c1"), see(id("talk-item")))
	f.mu.Lock()
	f.heard("user", "还在吗？")
	f.mu.Unlock()
	b.until(".lines", "还在吗？") // over the socket
	b.do(write("reply-input", "可以的，我们马上补发一只。"))
	b.keep("inbox-zh")
	b.do(press(kb.Enter))
	b.until(".lines", "马上补发一只")
	if !f.done("reply 可以的，我们马上补发一只。") {
		t.Errorf("asked: %q", f.asked)
	}
	b.keep("inbox-replied-zh")
	b.do(click("conversation-c3"), see(id("reply-window")+".over"))
	b.keep("inbox-over-zh")
}

func TestConsole_users(t *testing.T) {
	f, b := newFake(t), browse(t, "en-US", 1280, 900)
	b.logIn(f)
	b.do(click("nav-users"), see(id("user-id")), write("user-id", "u-3f9c1d77"), press(kb.Enter), see(id("user-disconnect")))
	b.do(click("user-disconnect"), see(id("user-done")))
	b.until(id("user-done"), "sockets on this node: 2")
	b.do(click("user-block"), see(id("block-confirm")))
	b.keep("block-en")
	b.do(click("block-confirm"))
	b.until(id("user-done"), "Blocked")
	if !f.done("disconnect u-3f9c1d77") || !f.done("block u-3f9c1d77") {
		t.Errorf("asked: %q", f.asked)
	}
	b.keep("users-en")
}

// What fails says why, where it is explained, and how to try again; what was there stays.
func TestConsole_failure(t *testing.T) {
	f, b := newFake(t), browse(t, "en-US", 1280, 900, "status of 503", "ERR_CONNECTION_REFUSED", "WebSocket connection")
	b.logIn(f)
	away := func(is bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.away = is
	}
	away(true)
	b.do(click("nav-rooms"), see(id("failure")))
	b.until(id("failure"), "Not just now; try again soon Try again in 1 s.unavailable")
	b.do(see(id("failure") + ` a[href="/docs/errors/unavailable"]`))
	b.keep("failure-en")
	away(false)
	b.do(chromedp.Click(chromedp.CSS(id("failure")+" button")), see(id("room-notice")), gone(id("failure")))
	f.close()
	b.do(see(id("failure")), see(id("room-notice")))
	b.until(id("failure"), "The hub does not answer")
	b.keep("offline-en")
}

// Who wants it dark gets it dark, TDesign's parts included.
func TestConsole_inTheDark(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	dark := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, dark); err != nil {
		t.Fatal(err)
	}
	b.logIn(f)
	time.Sleep(2500 * time.Millisecond)
	b.keep("dark-overview")
	for _, page := range []struct{ nav, wait string }{
		{"broadcast", id("preview")}, {"orders", id("refund-2026112114030001")}, {"inbox", id("conversation-c1")},
	} {
		b.do(click("nav-"+page.nav), see(page.wait))
		b.keep("dark-" + page.nav)
	}
	b.do(click("conversation-c1"), see(id("talk-item")))
	b.keep("dark-talk")
	for _, selector := range []string{"body", ".panel", ".t-textarea__inner", ".t-button--variant-base"} {
		if light := b.number(fmt.Sprintf(`(%s)(document.querySelector(%q))`, brightness, selector)); light > 110 {
			t.Errorf("%s has brightness %d of 255", selector, light)
		}
	}
}

// brightness is that of what stands behind an element.
const brightness = `e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor.match(/[\d.]+/g).map(Number);
	if (c.length < 4 || c[3] > 0) return Math.round((c[0] + c[1] + c[2]) / 3) } return 255 }`

// The hub forgets the token as well.
func TestConsole_logout(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	b.logIn(f)
	b.do(click("logout"), see(id("login-user")))
	for end := time.Now().Add(10 * time.Second); !f.done("logout"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the hub was not told")
		}
	}
	b.do(chromedp.Reload(), see(id("login-user")))
}

// On a phone nothing is wider than the screen, and the pages stand below.
func TestConsole_onAPhone(t *testing.T) {
	for _, lang := range []string{"zh-CN", "en-US"} {
		t.Run(lang, func(t *testing.T) { onAPhone(t, lang) })
	}
}

func onAPhone(t *testing.T, lang string) {
	f, b := newFake(t), browse(t, lang, 390, 844, "status of 404")
	b.do(chromedp.Navigate(f.URL+"/console/"), see(id("login-user")))
	b.keep(lang + "-phone-login")
	b.logIn(f)
	if n := b.number(`[...document.querySelectorAll('.nav > a')].filter(a => a.offsetParent && (a.scrollWidth > a.clientWidth || a.getBoundingClientRect().right > 390)).length`); n != 0 {
		t.Errorf("the names of %d pages do not fit below", n)
	}
	if high := b.number(`document.querySelector('.nav').offsetHeight`); high > 60 {
		t.Errorf("the pages' bar is %d high: does the number of alarms stand below it?", high)
	}
	time.Sleep(2500 * time.Millisecond)
	for _, page := range []struct{ nav, wait string }{
		{"overview", "figure canvas"}, {"rooms", id("room-notice")}, {"broadcast", id("preview")},
		{"orders", id("refund-2026112114030001")}, {"inbox", id("conversation-c1")}, {"users", id("user-id")}, {"links", id("link-path")}, {"messages", id("doubts")},
	} {
		b.do(click("nav-"+page.nav), see(page.wait))
		if wide := b.number(`document.documentElement.scrollWidth`); wide > 390 {
			t.Errorf("%s is %d wide", page.nav, wide)
		}
		b.keep(lang + "-phone-" + page.nav)
	}
	b.do(click("nav-inbox"), click("conversation-c1"), see(id("talk-item")))
	b.keep(lang + "-phone-talk")
	b.do(click("nav-rooms"), click("room-notice"), see(id("room-message")))
	b.keep(lang + "-phone-room")
	b.do(click("nav-orders"), click("refund-2026112114030001"), see(id("refund-confirm")))
	b.keep(lang + "-phone-refund")
	b.do(press(kb.Escape), gone(id("refund-dialog")), chromedp.Click(chromedp.CSS(id("order-2026112111020003")+" .open")), see(id("order-details")))
	b.keep(lang + "-phone-order")
}

// A conflict of a payment is seen from every page, explained, and acknowledged; a day's bill shows what differs.
func TestConsole_alarms(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	b.logIn(f)
	b.until(id("alarms-open"), "1")
	b.do(click("nav-alarms"), see(id("alarm-payment.conflict")))
	b.keep("alarms-zh")
	b.do(click("alarm-ack"), chromedp.WaitNotPresent(chromedp.CSS(id("alarm-ack"))), click("alarms-all"), see(id("alarm-payment.conflict")))
	b.do(chromedp.Click(chromedp.CSS(id("bill-2026-11-20")+" .open")), see(id("bill")+" table"))
	b.until(id("bill"), "128.00")
	b.keep("bill-zh")
	if !f.done("ack a-1") {
		t.Error("the alarm was not acknowledged")
	}
}

// What became of a letter stands there with reasons; what was given up is tried again.
func TestConsole_messages(t *testing.T) {
	f, b := newFake(t), browse(t, "en-US", 1280, 900)
	b.logIn(f)
	b.do(click("nav-messages"), chromedp.Focus(chromedp.CSS(id("message-id")), chromedp.NodeVisible), chromedp.KeyEvent("pay:42\r"), see(id("receipt")))
	b.until(id("receipt")+":last-of-type", "no more replies")
	if n := b.number(`document.querySelectorAll('[data-testid="receipt"]').length`); n != 2 {
		t.Errorf("%d receipts", n)
	}
	b.keep("messages-en")
	b.do(click("dead-retry"), chromedp.WaitNotPresent(chromedp.CSS(id("dead-retry"))))
	if !f.done("retry 7") {
		t.Error("nothing was tried again")
	}
}

// A rule is changed, and a dry run says what would happen.
func TestConsole_fallbacks(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	b.logIn(f)
	b.do(click("nav-fallbacks"), see(id("fallback-rule")), click("fallback-add"), see(id("rule-action")),
		chromedp.Focus(chromedp.CSS(id("rule-action"))), chromedp.KeyEvent("kf.*"),
		chromedp.Focus(chromedp.CSS(id("rule-template"))), chromedp.KeyEvent("T1"),
		chromedp.Focus(chromedp.CSS(id("rule-data"))), chromedp.KeyEvent("thing1={content}"))
	b.keep("fallback-zh")
	b.do(click("rule-save"), see(id("fallback-rule")+":nth-child(2)"))
	if !f.done(`{"action":"kf.*","after":60,"subscribe":{"template":"T1","data":{"thing1":"{content}"}}}`) || !f.done(`"version":3`) || !f.done(`"quiet":"22:00-08:00"`) {
		t.Errorf("saved: %v", f.asked)
	}
	b.do(chromedp.Focus(chromedp.CSS(id("dryrun-user"))), chromedp.KeyEvent("u-3f9c1d77"), click("dryrun-ask"), see(id("dryrun-result")+`[data-result="subscribe"]`))
	b.keep("fallbacks-zh")
}

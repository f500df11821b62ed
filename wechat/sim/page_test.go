package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a page in a headless Chromium. Exceptions, complaints in the console, failed requests, and
// requests that leave this machine fail the test.
type browser struct {
	t   *testing.T
	ctx context.Context
}

const patience = 90 * time.Second // the machine may be compiling

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
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.WindowSize(width, height), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", "zh-CN"), chromedp.Flag("accept-lang", "zh-CN"), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var complaints []string
	complain := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		complaints = append(complaints, fmt.Sprintf(format, args...))
	}
	err := chromedp.Listen(ctx, func(ev any) {
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			complain("exception: %+v", e.ExceptionDetails)
		case *runtime.EventConsoleAPICalled:
			if e.Type == "error" || e.Type == "warning" {
				complain("console: %s %v", e.Type, e.Args)
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
				complain("log: %s %s", e.Entry.Text, e.Entry.URL)
			}
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; !strings.HasPrefix(u, "http://127.0.0.1:") && !strings.HasPrefix(u, "data:") {
				complain("the page asks for %s", u)
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
	b := browser{t, ctx}
	b.do("open a tab", chromedp.EmulateViewport(int64(width), int64(height)))
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	return b
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

// until waits for a script to be true.
func (b browser) until(what, script string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("Boolean("+script+")")); err == nil && ok {
			return
		}
	}
	b.keep("failed")
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText.slice(0, 1500)"))
	b.t.Fatalf("%s: never %s\n%s", what, script, text)
}

// click waits for an element with the text, and clicks it as people do.
func (b browser) click(selector, text string) {
	b.t.Helper()
	find := fmt.Sprintf("[...document.querySelectorAll(%q)].find(e => e.textContent.includes(%q) && !e.disabled && e.offsetParent !== null)", selector, text)
	b.until("click "+text, find)
	if _, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("("+find+".click(), true)")); err != nil {
		b.t.Fatal(err)
	}
}

// keep stores what the browser shows where WXHUB_SCREENSHOTS names a folder, for people to look at.
func (b browser) keep(name string) {
	b.t.Helper()
	dir := os.Getenv("WXHUB_SCREENSHOTS")
	if dir == "" {
		return
	}
	time.Sleep(300 * time.Millisecond) // until what slides stands still
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sim-"+name+".png"), png, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// busyWorld is a simulator on a real address with something in every list, and the address.
func busyWorld(t *testing.T) (*world, string) {
	w := newWorld(t, func(o *Options) {
		withMP("safe")(o)
		o.Now, o.TimeScale = time.Now, 1000
	})
	w.clock.at = time.Now()
	w.hub.answer = func(r *http.Request, _ string) (int, string) {
		if strings.Contains(r.URL.Path, "notify") {
			return 200, `{"code":"SUCCESS","message":"成功"}`
		}
		return 200, "success"
	}
	srv := httptest.NewServer(w.sim)
	t.Cleanup(srv.Close)
	alice := w.openid("alice")
	w.openid("小明")
	w.prepay(w.order("20260115103456000001", alice))
	w.prepay(with(w.order("20260115103456000002", alice), "description", "手冲咖啡 · 埃塞俄比亚耶加雪菲"))
	w.buy("20260115103456000003")
	w.control("/sim/subscribe", object{"user": "alice", "templates": object{"TPL_0123456789abcdef": "accept"}})
	w.control("/sim/message", object{"user": "alice", "content": "在吗？这个还有货吗？"})
	w.control("/sim/trigger", object{"event": "follow", "user": "alice"})
	w.control("/sim/trigger", object{"event": "pay", "outTradeNo": "20260115103456000003", "forge": "signature"})
	w.send(w.miniToken(), textTo(alice, "有的，今天下单今天发。"))
	r := w.signed("POST", "/v3/pay/transactions/jsapi", string(toJSON(w.order("20260115103456000009", alice))))
	r.Body = http.NoBody
	w.do(r)
	w.session(loginQuery("nonsense"))
	return w, srv.URL
}

func TestPage(t *testing.T) {
	w, address := busyWorld(t)
	b := newBrowser(t, 1280, 860)
	b.do("open", chromedp.Navigate(address+"/"))
	b.until("orders", "document.querySelectorAll('tbody tr').length === 3 && document.querySelector('h1').textContent === '微信模拟器'")
	b.keep("orders")
	b.click("tbody button", "付款并通知")
	b.until("paid", "[...document.querySelectorAll('tbody .pill')].filter(p => p.textContent === '已支付').length === 2")
	b.click("tbody button.link", "20260115103456000003")
	b.until("details", "!document.getElementById('drawer').hidden && document.querySelector('#drawer tbody tr')")
	b.keep("order")

	b.click("#tabs button", "支付通知")
	b.until("notifies", "document.querySelectorAll('main tbody tr').length >= 2")
	b.keep("notifies")
	sent, rows := w.hub.count(), len(w.state()["notifies"].([]any))
	b.until("all notifies", fmt.Sprintf("document.querySelectorAll('main tbody tr').length === %d", rows))
	b.click("main tbody button", "重放")
	b.until("one more", fmt.Sprintf("document.querySelectorAll('main tbody tr').length === %d", rows+1))
	if w.hub.count() != sent+1 {
		t.Errorf("%d callbacks after one replay, had %d", w.hub.count(), sent)
	}
	b.click("main tbody button.link", "#")
	b.until("evidence", "document.querySelector('#drawer pre.signed .nl') && document.getElementById('drawer').innerText.includes('PUB_KEY_ID')")
	b.keep("notify")
	b.do("close", chromedp.KeyEvent("\x1b"))
	b.until("closed", "document.getElementById('drawer').hidden")

	b.click("#tabs button", "接口调用")
	b.click("main tbody button.link", "原因")
	b.until("why", "document.querySelector('.verdict.bad') && document.querySelector('.verdict').innerText.includes('签名时请求体') === false && document.querySelector('pre.signed')")
	b.keep("why")
	b.click("#lang", "English")
	b.until("English", "document.querySelector('h1').textContent === 'WeChat simulator' && document.querySelector('.verdict').innerText.includes('refused')")
	b.click("#close", "")

	b.click("#tabs button", "Play")
	b.until("a form", "document.querySelector('#event')")
	b.click("#go", "Send")
	b.until("an answer", "document.querySelector('#answers .pill.good')")
	b.keep("play")
	b.click("#tabs button", "Faults")
	b.click("#presets button", "Next call: 502")
	b.until("a fault", "document.querySelector('main tbody tr') && document.querySelector('main tbody').innerText.includes('status=502')")
	b.keep("faults")
	b.click("main button", "Clear all faults")
	b.until("none", "!document.querySelector('main tbody tr')")
	b.click("#tabs button", "Settings")
	b.do("mixed", chromedp.SetValue(chromedp.CSS("#keyMode"), "mixed"))
	b.click("#save", "Save")
	b.until("mixed", "document.getElementById('chips').innerText.includes('changing over')")
	b.keep("settings")
}

func TestPage_phone(t *testing.T) {
	_, address := busyWorld(t)
	b := newBrowser(t, 390, 844)
	b.do("open", chromedp.Navigate(address+"/"))
	for _, tab := range []string{"订单", "用户", "消息推送", "支付通知", "已发消息", "接口调用", "故障", "触发事件", "设置"} {
		b.click("#tabs button", tab)
		b.until("fits "+tab, "document.documentElement.scrollWidth <= 390 && document.querySelector('#panel').children.length > 0")
		b.keep("phone-" + tab)
	}
	b.click("#tabs button", "用户")
	b.click("main tbody button.link", "alice")
	b.until("chat", "document.querySelectorAll('.chat .line').length >= 2 && document.documentElement.scrollWidth <= 390")
	b.keep("phone-chat")
	b.click("#close", "")
	b.click("#tabs button", "接口调用")
	b.click("main tbody button.link", "原因")
	b.until("why", "document.querySelector('.verdict.bad') && document.documentElement.scrollWidth <= 390")
	b.keep("phone-why")
}

// Every word of one language is there in the other.
func TestPage_words(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("skipped: no Node on this machine")
	}
	script := `const fs=require('fs');const words=new Function(fs.readFileSync('page/words.js','utf8')+';return words')();
const flat=(o,p='')=>Object.entries(o).flatMap(([k,v])=>typeof v==='string'?[p+k]:flat(v,p+k+'.'));
const zh=new Set(flat(words.zh)),en=new Set(flat(words.en));
console.log(JSON.stringify([...zh].filter(k=>!en.has(k)).concat([...en].filter(k=>!zh.has(k)))))`
	out, err := exec.Command(node, "-e", script).Output()
	var missing []string
	if err != nil || json.Unmarshal(out, &missing) != nil || len(missing) > 0 {
		t.Errorf("words in one language only: %s %v", out, err)
	}
}

package console_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// An order's delivery is said by carrier and number, and what WeChat answered stands there; what it refused is mended.
func TestConsole_shipping(t *testing.T) {
	for lang, words := range map[string][]string{
		"zh-CN": {"还没有填发货信息", "微信没有收下： 10060012", "微信已收下 快递", "微信只允许修改一次"},
		"en-US": {"Nobody has said", "WeChat did not take it: 10060012", "WeChat knows Express", "WeChat allows one change"},
	} {
		t.Run(lang, func(t *testing.T) {
			f, b := newFake(t), browse(t, lang, 1280, 900, "status of 404")
			b.logIn(f)
			const order = "2026112114030001"
			b.do(click("nav-orders"), see(id("order-"+order)), chromedp.Click(chromedp.CSS(id("order-"+order)+" .open")), see(id("ship")))
			b.until(id("shipping"), words[0])
			b.do(click("ship"), see(id("ship-company")), write("ship-company", "XX"), write("ship-number", "SF1234567890"))
			b.keep("shipping-form-" + lang)
			b.do(press(kb.Enter))
			if f.done("ship ") {
				t.Error("Enter in a field told WeChat")
			}
			b.do(click("ship-confirm"), see(id("shipping-state")+"[data-state=failed]"))
			b.until(id("shipping-reason"), words[1])
			b.keep("shipping-failed-" + lang)
			b.do(click("ship"), see(id("ship-company")))
			b.until(id("shipping-form"), words[3])
			b.overwrite("ship-company", "SF")
			b.do(see(id("ship-contact")), write("ship-contact", "138****1234"), click("ship-confirm"), see(id("shipping-state")+"[data-state=told]"))
			b.until(id("shipping-state"), words[2])
			if !f.done("ship "+order+" express XX SF1234567890") || !f.done("ship "+order+" express SF SF1234567890") {
				t.Errorf("asked: %q", f.asked)
			}
			b.keep("shipping-told-" + lang)
		})
	}
}

// Staff sends a picture by a second click, and the customer sees that somebody writes while somebody does.
func TestConsole_pictureAndTyping(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	dir := t.TempDir()
	small, big, text := filepath.Join(dir, "cup.png"), filepath.Join(dir, "big.png"), filepath.Join(dir, "notes.txt")
	for name, content := range map[string][]byte{small: dot, big: append(dot, make([]byte, 1<<20)...), text: []byte("notes")} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.logIn(f)
	b.do(click("nav-inbox"), see(id("conversation-c1")), click("conversation-c1"), see(id("talk-item")))
	choose := func(file string) {
		b.do(chromedp.SetUploadFiles(chromedp.CSS(id("picture-file")), []string{file}, chromedp.NodeReady), see(id("picture-dialog")))
	}
	for file, why := range map[string]string{big: "最大 1 MiB", text: "只能发 PNG"} {
		choose(file)
		b.until(id("picture-dialog"), why)
		b.do(press(kb.Escape), gone(id("picture-dialog")))
	}
	choose(small)
	b.do(see(id("picture-dialog") + " img"))
	b.keep("picture-zh")
	if f.done("picture ") {
		t.Error("it was sent before anybody said so")
	}
	b.do(click("picture-send"), gone(id("picture-dialog")), see(`.said.staff img[src="/pictures/abc.png"]`))
	if !f.done(fmt.Sprint("picture ", base64.StdEncoding.EncodedLen(len(dot)))) {
		t.Errorf("asked: %q", f.asked)
	}
	b.keep("inbox-picture-zh")

	// The customer was silent for minutes: WeChat would show nothing.
	b.do(write("reply-input", "好"))
	time.Sleep(300 * time.Millisecond)
	if f.done("typing") {
		t.Errorf("asked: %q", f.asked)
	}
	f.mu.Lock()
	f.heard("user", "在吗？")
	f.mu.Unlock()
	b.until(".lines", "在吗？")
	b.do(write("reply-input", "的"))
	for _, want := range []string{"typing true", "typing false"} {
		for end := time.Now().Add(10 * time.Second); !f.done(want); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no %s: %q", want, f.asked)
			}
		}
		if want == "typing true" {
			b.do(press(kb.Enter)) // sent: nobody writes any more
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := strings.Count(strings.Join(f.asked, ","), "typing true"); n != 1 {
		t.Errorf("said %d times that somebody writes", n)
	}
}

// Links and codes are made, and what cannot be is said.
func TestConsole_links(t *testing.T) {
	for lang, words := range map[string][]string{
		"zh-CN": {"有效到", "1 到 30 天", "没有这个页面"}, "en-US": {"Good until", "1 to 30 days", "knows no such page"},
	} {
		t.Run(lang, func(t *testing.T) {
			f, b := newFake(t), browse(t, lang, 1280, 900, "status of 400")
			b.logIn(f)
			b.do(click("nav-links"), see(id("link-path")), write("link-path", "pages/product/index"), write("link-query", "id=tea"))
			b.overwrite("link-days", "31")
			b.until("form", words[1])
			b.overwrite("link-days", "7")
			b.do(click("link-make"), see(id("link-made")))
			b.until(id("link-made"), "https://wxaurl.cn/Zx81kQ2hvPa")
			b.until(id("link-made"), words[0])
			b.do(write("code-path", "pages/none"), click("code-make"), see(id("failure")))
			b.until(id("failure"), words[2])
			b.overwrite("code-path", "pages/product/index?id=tea")
			b.do(chromedp.Click(chromedp.CSS(".panel:last-of-type .t-radio:last-of-type")), click("code-make"), see(id("code-made")+" img"))
			if n := b.number(`document.querySelector('[data-testid="code-made"] img').naturalWidth`); n != 48 {
				t.Errorf("the picture is %d wide: the hub's own address does not serve it", n)
			}
			if !f.done("link link pages/product/index id=tea 7") || !f.done("code pages/product/index?id=tea true") {
				t.Errorf("asked: %q", f.asked)
			}
			b.keep("links-" + lang)
		})
	}
}

// A letter that was perhaps sent waits for somebody who decides.
func TestConsole_decision(t *testing.T) {
	f, b := newFake(t), browse(t, "zh-CN", 1280, 900)
	b.logIn(f)
	b.do(click("nav-messages"), see(id("doubt-pay:43")))
	b.until(id("doubts"), "他可能收到两条")
	b.keep("doubts-zh")
	b.do(click("decide-again"), gone(id("doubts")))
	if !f.done("decide pay:43 u-5be04412 again") {
		t.Errorf("asked: %q", f.asked)
	}
}

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// newBrowser starts a headless Chromium that reaches nothing but this machine.
func newBrowser(t *testing.T, width, height int) (ctx context.Context, complaints func() []string) {
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
		chromedp.Flag("lang", "zh-CN"), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var said []string
	chromedp.ListenTarget(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *cdpruntime.EventExceptionThrown:
			said = append(said, "exception: "+e.ExceptionDetails.Error())
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; !strings.HasPrefix(u, "http://127.0.0.1:") && !strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "blob:") {
				said = append(said, "the page asks for "+u)
			}
		}
	})
	if err := chromedp.Run(ctx, network.Enable()); err != nil {
		t.Fatal(err)
	}
	return ctx, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(said)
	}
}

// keepScreenshot stores what the browser shows where WXHUB_SCREENSHOTS names a folder, for people to look at.
func keepScreenshot(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("WXHUB_SCREENSHOTS")
	if dir == "" {
		return
	}
	var png []byte
	if err := chromedp.Run(ctx, chromedp.CaptureScreenshot(&png)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

func testID(phone, id string) string {
	return `[data-testid="phone-` + phone + `"] [data-testid="` + id + `"]`
}

// A person buys on the left phone; the right one sees the notice, by the real SDK over the real socket.
func TestPhone_buyAndSee(t *testing.T) {
	ctx, complaints := newBrowser(t, 1280, 900)
	p := startDemo(t, nil)
	if err := chromedp.Run(ctx,
		chromedp.Navigate(p.hub+"/phone/"),
		chromedp.WaitVisible(testID("left", "buy-tea"), chromedp.ByQuery),
		chromedp.WaitVisible(`[data-testid="phone-left"] [data-testid="socket-state"][data-state="connected"]`, chromedp.ByQuery),
		chromedp.WaitVisible(`[data-testid="phone-right"] [data-testid="socket-state"][data-state="connected"]`, chromedp.ByQuery),
	); err != nil {
		t.Fatalf("the phones do not come up: %v %v", err, complaints())
	}
	keepScreenshot(ctx, t, "phones")
	var toast string
	if err := chromedp.Run(ctx,
		chromedp.Click(testID("left", "buy-tea"), chromedp.ByQuery),
		chromedp.WaitVisible(testID("left", "pay-sheet"), chromedp.ByQuery),
	); err != nil {
		t.Fatalf("no pay sheet: %v %v", err, complaints())
	}
	keepScreenshot(ctx, t, "pay-sheet")
	if err := chromedp.Run(ctx,
		chromedp.Click(testID("left", "pay-confirm"), chromedp.ByQuery),
		chromedp.WaitVisible(testID("right", "toast"), chromedp.ByQuery),
		chromedp.Text(testID("right", "toast"), &toast, chromedp.ByQuery),
	); err != nil {
		t.Fatalf("no toast on the right phone: %v %v", err, complaints())
	}
	keepScreenshot(ctx, t, "toast")
	if !strings.Contains(toast, "**") || !strings.Contains(toast, "龙井") {
		t.Errorf("the toast says %q", toast)
	}
	var notices int
	if err := chromedp.Run(ctx, chromedp.Evaluate(
		`document.querySelectorAll('[data-testid="phone-right"] [data-testid="notice-item"]').length`, &notices)); err != nil {
		t.Fatal(err)
	}
	if notices != 1 {
		t.Errorf("the right phone lists %d notices", notices)
	}
	for _, c := range complaints() {
		t.Error(c)
	}
}

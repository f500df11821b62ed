package main

import (
	"context"
	"fmt"
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

// The report is read in a browser without network: it shows every scenario in both languages and complains of nothing.
func TestHTML_inBrowser(t *testing.T) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("skipped: no chromium on this machine")
	}
	file := filepath.Join(t.TempDir(), "report.html")
	code, _, errs := play(t, newFakeHub(t), "-scenario", "idle,fanout", "-for", "10ms", "-expect", "p99<5s,max<1us", "-html", file)
	if code != exitFailed {
		t.Fatalf("exit %d: %s", code, errs)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("lang", "en"), chromedp.Flag("accept-lang", "en"), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	var mu sync.Mutex
	var complaints []string
	if err := chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, fmt.Sprintf("%+v", e.ExceptionDetails))
		case *log.EventEntryAdded:
			complaints = append(complaints, e.Entry.Text)
		}
	}); err != nil {
		t.Fatal(err)
	}
	read := func(script string) string {
		t.Helper()
		got, err := chromedp.Run(ctx, chromedp.Evaluate[string](script))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if err := chromedp.Do(ctx, chromedp.Navigate("file://"+file), chromedp.WaitVisible(chromedp.CSS("table"))); err != nil {
		t.Fatal(err)
	}
	if got := read(`document.body.innerText`); !strings.Contains(got, "Load test") || !strings.Contains(got, "p99<5000ms") || !strings.Contains(got, "FAILED") {
		t.Errorf("the page says %q", got)
	}
	if got := read(`String(document.querySelectorAll("svg path").length)`); got != "5" { // three curves of delay, one of flow, one of percentiles
		t.Errorf("%s curves", got)
	}
	if got := read(`document.getElementById("lang").click(); document.body.innerText`); !strings.Contains(got, "压测报告") || !strings.Contains(got, "未通过") {
		t.Errorf("in Chinese the page says %q", got)
	}
	if got := read(`String(document.documentElement.scrollWidth <= innerWidth)`); got != "true" {
		t.Error("the page is wider than the window")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, c := range complaints {
		t.Errorf("the browser complains: %s", c)
	}
}

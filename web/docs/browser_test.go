package docs

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const smallAPI = `{"openapi":"3.1.0","info":{"title":"wxhub","version":"1"},
"components":{"securitySchemes":{"key":{"type":"apiKey","in":"header","name":"X-API-Key"}}},
"paths":{"/api/products":{"get":{"summary":"the catalogue","security":[{"key":[]}],"responses":{"200":{"description":"ok"}}}}}}`

// A real browser opens the pages: the policy refuses nothing of ours, and no other server is asked.
func TestBrowser_viewerAndDoor(t *testing.T) {
	ctx, site := openBrowser(t)
	var mu sync.Mutex
	var complaints []string
	asked, unread := 0, map[network.RequestID]string{}
	err := chromedp.Listen(ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, fmt.Sprintf("%+v", e.ExceptionDetails))
		case *log.EventEntryAdded:
			complaints = append(complaints, e.Entry.Text+" "+e.Entry.URL)
		case *network.EventRequestWillBeSent:
			asked++
			unread[e.RequestID] = e.Request.URL
			u, err := url.Parse(e.Request.URL)
			if err == nil && u.Scheme != "data" && u.Scheme+"://"+u.Host != site {
				complaints = append(complaints, "asked "+e.Request.URL)
			}
		case *network.EventLoadingFinished:
			delete(unread, e.RequestID)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	see := func(selector string) step { return chromedp.WaitVisible(chromedp.CSS(selector)) }
	click := func(selector string) step { return chromedp.Click(chromedp.CSS(selector)) }
	for i, s := range []step{
		chromedp.Navigate(site + "/docs/api/"),
		see(".opblock-get"), click(".opblock-get .opblock-summary-control"), see(".try-out__btn"), click(".authorize"), see(".modal-ux"),
		chromedp.Navigate(site + "/?lang=en"),
		see(".state.good"), see(".copybox .copy"),
		chromedp.Navigate(site + "/docs/zh/socket"),
		see("#recover"),
	} {
		if err := chromedp.Do(ctx, s); err != nil {
			mu.Lock()
			defer mu.Unlock()
			t.Fatalf("step %d: %v; the browser says %q", i+1, err, complaints)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if asked < 10 {
		t.Errorf("only %d requests were seen: is the network watched?", asked)
	}
	for _, u := range unread {
		if u == site+"/readyz" {
			t.Error("the door page asked for /readyz and did not read the answer: that holds a connection")
		}
	}
	for _, c := range complaints {
		t.Errorf("the browser says: %s", c)
	}
}

// A phone's screen is 390 px wide: no page is pushed sideways.
func TestBrowser_narrowPages(t *testing.T) {
	ctx, site := openBrowser(t)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(390, 844)); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/?lang=zh", "/?lang=en", "/docs/api/?lang=zh", "/docs/api/?lang=en", "/docs/zh/", "/docs/en/", "/docs/zh/none", "/docs/en/none"}
	for name := range loadSite().guides {
		paths = append(paths, "/docs/"+name)
	}
	for _, path := range paths {
		ready := ".bar"
		if strings.HasPrefix(path, "/docs/api/") {
			ready = ".opblock-get"
		}
		if err := chromedp.Do(ctx, chromedp.Navigate(site+path)); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(ready))); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		width, err := chromedp.Run(ctx, chromedp.Evaluate[int]("document.documentElement.scrollWidth"))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if width > 390 {
			t.Errorf("%s is %d px wide on a screen of 390", path, width)
		}
		wide, err := chromedp.Run(ctx, chromedp.Evaluate[int]("[...document.querySelectorAll('.prose table')].filter(t => t.rows[0].cells.length < 4 && t.offsetWidth > t.parentElement.clientWidth + 1).length"))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if wide > 0 {
			t.Errorf("%s: %d tables hide their last column beyond the screen", path, wide)
		}
	}
}

// openBrowser serves door and documents as a server does, and starts a browser.
func openBrowser(t *testing.T) (ctx context.Context, site string) {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("skipped: no chromium on this machine")
	}
	mux := http.NewServeMux()
	mux.Handle("/docs/", Handler())
	mux.Handle("/{$}", Door(DoorInfo{Demo: true, PhoneURL: "/phone/"}))
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ready\n")) })
	mux.HandleFunc("/api/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(smallAPI))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	return ctx, server.URL
}

type step = chromedp.Action[chromedp.Void]

package docs

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
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
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("skipped: no chromium on this machine")
	}
	mux := http.NewServeMux()
	mux.Handle("/docs/", Handler())
	mux.Handle("/{$}", Door(DoorInfo{Demo: true, PhoneURL: "/phone/"}))
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("/api/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(smallAPI))
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	defer cancel()

	var mu sync.Mutex
	var complaints []string
	asked := 0
	err = chromedp.Listen(ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, fmt.Sprintf("%+v", e.ExceptionDetails))
		case *log.EventEntryAdded:
			complaints = append(complaints, e.Entry.Text+" "+e.Entry.URL)
		case *network.EventRequestWillBeSent:
			asked++
			u, err := url.Parse(e.Request.URL)
			if err == nil && u.Scheme != "data" && u.Scheme+"://"+u.Host != server.URL {
				complaints = append(complaints, "asked "+e.Request.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	see := func(selector string) step { return chromedp.WaitVisible(chromedp.CSS(selector)) }
	click := func(selector string) step { return chromedp.Click(chromedp.CSS(selector)) }
	for i, s := range []step{
		chromedp.Navigate(server.URL + "/docs/api/"),
		see(".opblock-get"), click(".opblock-get .opblock-summary-control"), see(".try-out__btn"), click(".authorize"), see(".modal-ux"),
		chromedp.Navigate(server.URL + "/?lang=en"),
		see(".state.good"), see(".copybox .copy"),
		chromedp.Navigate(server.URL + "/docs/zh/socket"),
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
	for _, c := range complaints {
		t.Errorf("the browser says: %s", c)
	}
}

type step = chromedp.Action[chromedp.Void]

// Package phone serves a page that draws two phones, each a real client of the hub: its own person,
// a wx object that talks to the WeChat simulator, and the SDK on top. It is for the demo only.
//
// Dependencies: web/sdk for the client's code; never hub, store or wechat.
package phone

import (
	"net/http"
)

// Config says where the page finds its servers, as the browser reaches them.
type Config struct {
	SimURL string // the simulator: "http://127.0.0.1:8081"
	HubURL string // the hub; empty: the page's own origin
}

// Handler serves the page and what it loads. It may be mounted at /phone or /phone/, with the prefix stripped or not.
func Handler(c Config) http.Handler { return http.NotFoundHandler() }

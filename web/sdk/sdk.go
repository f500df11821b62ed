// Package sdk carries the built TypeScript client, so that the binary can serve it to pages.
//
// The sources are in src; "npm run build" makes dist (ES module, for browsers and Node) and
// miniprogram_dist (CommonJS, for mini-programs). Both are committed: Go needs no Node to build.
package sdk

import (
	"embed"
	"io/fs"
)

//go:embed dist
var dist embed.FS

// Dist is the ES module build: "index.js" holds all of it, without imports.
func Dist() fs.FS {
	d, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // only an invalid path does that
	}
	return d
}

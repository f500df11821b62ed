package main

import (
	_ "embed"
	"encoding/json"
	"os"
	"strings"
	"time"
)

//go:embed report.html
var reportPage string

// writeHTML writes one page that holds everything it shows: results, curves and the hub's own figures.
func writeHTML(path string, o options, results []result, samples []sample) error {
	data, err := json.Marshal(map[string]any{ // escapes <, > and &: safe inside the page's script element
		"at": time.Now().Format(time.RFC3339), "seed": o.seed, "urls": o.urls, "protocol": o.protocol,
		"expect": texts(o.expect), "results": results, "samples": samples,
	})
	if err != nil {
		return err
	}
	page := make([]byte, 0, len(reportPage)+len(data))
	const mark = "/*DATA*/null"
	i := strings.Index(reportPage, mark)
	page = append(append(append(page, reportPage[:i]...), data...), reportPage[i+len(mark):]...)
	return os.WriteFile(path, page, 0o644) //nolint:gosec // a report, to be shown
}

func texts(list []expectation) []string {
	all := make([]string, len(list))
	for i, e := range list {
		all[i] = e.String()
	}
	return all
}

// Command report reads `go test -json` and prints what a person wants of it: a line per package, everything that a
// failed test said, and at the end the name and reason of each test that was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of build output
}

func main() {
	said := map[[2]string][]string{} // by package and test
	var skipped []string
	failed := false
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text()) // not from a test
			continue
		}
		key := [2]string{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "build-fail":
			failed = true
		case "output":
			if e.Test == "" && (strings.HasPrefix(e.Output, "ok ") || strings.HasPrefix(e.Output, "FAIL\t") || strings.HasPrefix(e.Output, "---")) {
				fmt.Print(e.Output)
			} else {
				said[key] = append(said[key], e.Output)
			}
		case "skip":
			if e.Test != "" {
				skipped = append(skipped, e.Package+" "+e.Test+": "+reason(said[key]))
			}
			delete(said, key)
		case "pass":
			delete(said, key)
		case "fail":
			failed = true
			fmt.Print(strings.Join(said[key], ""))
			delete(said, key)
		}
	}
	if len(skipped) > 0 {
		fmt.Printf("skipped %d:\n", len(skipped))
		for _, s := range skipped {
			fmt.Println("  " + s)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Println("report:", err)
		failed = true
	}
	if failed {
		os.Exit(1)
	}
}

// reason is what the test said when it skipped itself.
func reason(lines []string) string {
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok := strings.Cut(text, ": "); ok {
				return text
			}
		}
	}
	return "no reason given"
}

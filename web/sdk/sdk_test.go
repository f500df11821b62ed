package sdk_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wxhub/web/sdk"
)

func TestDist_isServable(t *testing.T) {
	code, err := fs.ReadFile(sdk.Dist(), "index.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(code), "\nimport ") || !strings.Contains(string(code), "WxHub") {
		t.Error("index.mjs must hold the whole client and import nothing")
	}
}

// The committed files are those of the sources.
func TestDist_matchesSources(t *testing.T) {
	node(t)
	out := t.TempDir()
	run(t, "node", "build.mjs", out)
	var built int
	for _, dir := range []string{"dist", "miniprogram_dist"} {
		err := fs.WalkDir(os.DirFS(out), dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			built++
			want, err := os.ReadFile(filepath.Join(out, path))
			if err != nil {
				return err
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
				t.Errorf("%s is not what the sources make (run npm run build): %v", path, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if built == 0 {
		t.Error("the build made nothing")
	}
}

// The client's own tests and type checks, so that go test knows of them.
func TestClient(t *testing.T) {
	node(t)
	t.Run("types", func(t *testing.T) { run(t, "npm", "run", "--silent", "check") })
	t.Run("behaviour", func(t *testing.T) { run(t, "npm", "run", "--silent", "test") })
}

func node(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("skipped: no Node on this machine; install Node 20 or newer")
	}
	if _, err := os.Stat("node_modules"); err != nil {
		t.Skip("skipped: no node_modules in web/sdk; run npm ci there (or make deps)")
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

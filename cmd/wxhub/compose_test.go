package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/knadh/koanf/parsers/yaml"
)

// docker-compose.yml names only settings that there are, mounts every secret that it names, and compose accepts it.
func TestCompose_config(t *testing.T) {
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := yaml.Parser().Unmarshal(text)
	if err != nil {
		t.Fatal(err)
	}
	secrets, _ := file["secrets"].(map[string]any)
	services, _ := file["services"].(map[string]any)
	for name, one := range services {
		service, _ := one.(map[string]any)
		mounted, _ := service["secrets"].([]any)
		environment, _ := service["environment"].(map[string]any)
		for variable, value := range environment {
			setting, ours := strings.CutPrefix(variable, "WXHUB_")
			if ours && !known(strings.TrimSuffix(setting, "_FILE")) {
				t.Errorf("%s: there is no setting %s", name, variable)
			}
			path, _ := value.(string)
			if secret, ok := strings.CutPrefix(path, "/run/secrets/"); ok && !slices.Contains(mounted, any(secret)) {
				t.Errorf("%s: %s is not mounted", name, secret)
			}
		}
		for _, secret := range mounted {
			if secrets[secret.(string)] == nil {
				t.Errorf("%s: no secret is called %s", name, secret)
			}
		}
	}
	if len(services) < 6 || len(secrets) < 10 {
		t.Errorf("%d services, %d secrets", len(services), len(secrets))
	}
	compose := []string{"docker-compose"}
	if _, err := exec.LookPath(compose[0]); err != nil {
		compose = []string{"docker", "compose"}
		if exec.Command("docker", "compose", "version").Run() != nil {
			t.Skip("skipped in part: no docker-compose on this machine")
		}
	}
	cmd := exec.Command(compose[0], append(compose[1:], "config", "--quiet")...)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestCompose_balancer(t *testing.T) {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("skipped: no haproxy on this machine")
	}
	config, err := filepath.Abs("haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path, "-c", "-f", config).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

package daemon

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

func parse(t *testing.T, add func(*pflag.FlagSet), args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddClientFlags(flags)
	add(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	path := configFile(t, `
http: 127.0.0.1:1
nats: 127.0.0.1:1
log-level: debug
tsa: https://u:canary@tsa.example/?key=canary
reserve: 2GiB
oidc:
  issuer: https://idp.example
  audience: vm
  roles: {vm.admins/x: admin}
layers:
  aurora: {wait: 3s, max: 5MiB}
`)
	env := map[string]string{"VAULTMESH_NATS": "127.0.0.1:2", "VAULTMESH_HTTP": "127.0.0.1:2", "VAULTMESH_TSA_CA": "a.pem,b.pem", "VAULTMESH_PUBLIC_LOG": "true"}
	flags := parse(t, AddUpFlags, "--config", path, "--http", "127.0.0.1:3", "--host", "a", "--host", "b")
	c, explained, err := Load(flags, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP != "127.0.0.1:3" || c.NATS != "127.0.0.1:2" || c.LogLevel != "debug" || c.Reserve != 2<<30 || !c.PublicLog ||
		!slices.Equal(c.Host, []string{"a", "b"}) || !slices.Equal(c.TSACA, []string{"a.pem", "b.pem"}) || c.OIDC.Roles["vm.admins/x"] != "admin" ||
		c.OIDC.RoleClaim != "roles" || len(c.TSA) != 1 || c.Cluster.Replicas != 3 || c.Data != DefaultData() {
		t.Errorf("%+v", c)
	}
	from := map[string]string{}
	for _, s := range explained {
		from[s.Key] = s.From
		if strings.Contains(stringOf(s.Value), "canary") {
			t.Errorf("%s shows a password: %v", s.Key, s.Value)
		}
	}
	for key, want := range map[string]string{"http": "flag --http", "nats": "environment VAULTMESH_NATS", "log-level": "file " + path, "name": "default", "oidc.issuer": "file " + path, "cluster.nats": "default"} {
		if from[key] != want {
			t.Errorf("%s is from %q, want %q", key, from[key], want)
		}
	}
	var layer struct {
		Wait any   `koanf:"wait"`
		Max  Bytes `koanf:"max"`
	}
	if err := c.Layer("aurora", &layer); err != nil || layer.Max != 5<<20 {
		t.Errorf("%+v %v", layer, err)
	}
	var less struct {
		Wait string `koanf:"wait"`
	}
	if err := c.Layer("aurora", &less); err == nil || !strings.Contains(err.Error(), "max") {
		t.Errorf("an unknown key of a layer: %v", err)
	}
}

func stringOf(v any) string {
	if l, ok := v.([]string); ok {
		return strings.Join(l, " ")
	}
	s, _ := v.(string)
	return s
}

// --nats is an address to up and URLs to run.
func TestRunFlags(t *testing.T) {
	flags := parse(t, AddRunFlags, "--nats", "tls://a:4222", "--nats", "tls://b:4222", "--roles", "fold,seal", "--replicas", "1")
	c, _, err := Load(flags, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.NATS != "127.0.0.1:4222" || !slices.Equal(c.Cluster.NATS, []string{"tls://a:4222", "tls://b:4222"}) || !slices.Equal(c.Cluster.Roles, []string{"fold", "seal"}) || c.Cluster.Replicas != 1 {
		t.Errorf("%+v", c)
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	for text, says := range map[string]string{
		"htpp: x":                `"htpp"`,
		"oidc: {isuer: x}":       `"oidc.isuer"`,
		"oidc: x":                `"oidc" must hold a mapping`,
		"http: [a]":              "http: must be a string",
		"public-log: 3":          "public-log: must be true or false",
		"tsa: {a: b}":            "tsa: must be a list",
		"cluster: {replicas: 0}": "replicas: must be a number",
		"- a":                    "not a YAML mapping",
		"reserve: lots":          "not a size",
	} {
		_, _, err := Load(parse(t, AddUpFlags, "--config", configFile(t, text)), nil)
		if err == nil || !strings.Contains(err.Error(), says) || term.ExitCode(err) != 2 || term.MendOf(err) == "" {
			t.Errorf("%q: %v, mend %q, exit %d", text, err, term.MendOf(err), term.ExitCode(err))
		}
	}
	if _, _, err := Load(parse(t, AddUpFlags, "--config", "/none/config.yaml"), nil); term.ExitCode(err) != 2 {
		t.Errorf("a named file that is not there: %v", err)
	}
	env := func(k string) string { return map[string]string{"VAULTMESH_PUBLIC_LOG": "maybe"}[k] }
	if _, _, err := Load(nil, env); err == nil || !strings.Contains(err.Error(), "VAULTMESH_PUBLIC_LOG") {
		t.Errorf("a malformed variable: %v", err)
	}
}

// Every field of Config has a setting, so that explain leaves nothing out.
func TestSettingsAreComplete(t *testing.T) {
	known := map[string]bool{}
	for _, s := range settings() {
		known[s.path] = true
	}
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			path := prefix + f.Tag.Get("koanf")
			if f.Type.Kind() == reflect.Struct {
				walk(path+".", f.Type)
			} else if !known[path] {
				t.Errorf("no setting for %s", path)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "12": 12, "1KiB": 1 << 10, "512MiB": 512 << 20, "10GB": 1e10, " 3 TiB ": 3 << 40, "7B": 7} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%q is %d, %v", text, b, err)
		}
		var again Bytes
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%q prints as %q", text, b)
		}
	}
	for _, text := range []string{"", "x", "-1", "1XB", "99999999999TiB", "1.5GiB"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/internal/redact"
)

type kind int

const (
	text kind = iota
	list
	boolean
	number
	mapping // in the file only
)

// A group is a set of flags that a command takes together.
type group int

const (
	clientGroup group = iota // every command
	serverGroup              // up and run
	upGroup
	runGroup
	fileOnly
)

// A setting is one key of the configuration: the table below is the only place that
// knows its flag, its variable, its default and what it is for.
type setting struct {
	path  string // in the file, dots between levels
	flag  string
	kind  kind
	def   string
	url   bool // may carry a password: shown without
	group group
	doc   string
}

func (s setting) env() string {
	return "VAULTMESH_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(s.path))
}

func settings() []setting {
	return []setting{
		{"data", "data", text, DefaultData(), false, clientGroup, "data directory DIR"},
		{"node", "node", text, "", true, clientGroup, "speak to the node at URL instead of the one in the data directory"},
		{"token-file", "token-file", text, "", false, clientGroup, "FILE with the bearer token for --node"},
		{"http", "http", text, "127.0.0.1:8420", false, serverGroup, "serve HTTP on ADDR; port 0 picks a free one"},
		{"host", "host", list, "", false, serverGroup, "another NAME by which requests may call this node (repeatable)"},
		{"tls-cert", "tls-cert", text, "", false, serverGroup, "PEM FILE with the certificate chain; read again when it changes"},
		{"tls-key", "tls-key", text, "", false, serverGroup, "PEM FILE with the certificate's key"},
		{"tokens", "tokens", text, "", false, serverGroup, "YAML FILE of accepted bearer tokens (by SHA-256) and their roles"},
		{"public-log", "public-log", boolean, "false", false, serverGroup, "let everybody read the log's entries without a token"},
		{"name", "name", text, "", false, serverGroup, "the log's ORIGIN, a URL without scheme; fixed at the first start"},
		{"tsa", "tsa", list, "", true, serverGroup, "URL of an RFC 3161 time-stamp authority (repeatable, the first is preferred)"},
		{"tsa-ca", "tsa-ca", list, "", false, serverGroup, "PEM FILE with an authority's root certificate (repeatable)"},
		{"log-level", "log-level", text, "info", false, serverGroup, "LEVEL of what is logged to stderr: debug, info, warn or error"},
		{"oidc.issuer", "oidc-issuer", text, "", true, serverGroup, "accept JWTs of the OpenID issuer at URL"},
		{"oidc.audience", "oidc-audience", text, "", false, serverGroup, "the audience ID that JWTs must be for"},
		{"oidc.role-claim", "", text, "roles", false, fileOnly, "claim that holds roles; a dotted path reaches into objects"},
		{"oidc.producer-claim", "", text, "vaultmesh_producer", false, fileOnly, "claim that names a producer"},
		{"oidc.tenant-claim", "", text, "vaultmesh_tenant", false, fileOnly, "claim that names a tenant"},
		{"oidc.roles", "", mapping, "", false, fileOnly, "values of the role claim and the role each gives"},
		{"nats", "nats", text, "127.0.0.1:4222", false, upGroup, "serve NATS on ADDR; port 0 picks a free one"},
		{"reserve", "reserve", text, "1GiB", false, upGroup, "SIZE of the disk that streams leave free"},
		{"cluster.nats", "nats", list, "", true, runGroup, "URL of the cluster's brokers (repeatable)"},
		{"cluster.creds", "creds", text, "", false, runGroup, "NATS credentials FILE; read again at every reconnect"},
		{"cluster.ca", "nats-ca", text, "", false, runGroup, "PEM FILE with the root of the brokers' certificates"},
		{"cluster.roles", "roles", list, "", false, runGroup, "the ROLES that this node runs, with commas between (default: all)"},
		{"cluster.replicas", "replicas", number, "3", false, runGroup, "N copies of each stream"},
		{"layers", "", mapping, "", false, fileOnly, "settings of layers, by layer"},
	}
}

// pathAnnotation ties a flag to its setting: --nats means different things to up
// and run.
const pathAnnotation = "vaultmesh.cloud/setting"

// AddClientFlags adds the flags that say which node a command speaks to, and
// --config.
func AddClientFlags(flags *pflag.FlagSet) {
	flags.String("config", "", "configuration FILE (default "+DefaultFile()+" if it exists)")
	addFlags(flags, clientGroup)
}

// AddUpFlags adds the flags of a node with an embedded broker.
func AddUpFlags(flags *pflag.FlagSet) { addFlags(flags, serverGroup, upGroup) }

// AddRunFlags adds the flags of a node on a broker of others.
func AddRunFlags(flags *pflag.FlagSet) { addFlags(flags, serverGroup, runGroup) }

func addFlags(flags *pflag.FlagSet, groups ...group) {
	for _, s := range settings() {
		if !slices.Contains(groups, s.group) {
			continue
		}
		switch s.kind {
		case list:
			flags.StringSlice(s.flag, nil, s.doc)
		case boolean:
			flags.Bool(s.flag, false, s.doc)
		case number:
			n, _ := strconv.Atoi(s.def)
			flags.Int(s.flag, n, s.doc)
		default:
			flags.String(s.flag, s.def, s.doc)
		}
		f := flags.Lookup(s.flag)
		if s.kind == list {
			f.DefValue = ""
		}
		_ = flags.SetAnnotation(s.flag, pathAnnotation, []string{s.path}) // the flag exists
	}
}

// A Setting is one line of an explanation: what a key is and where that is from.
type Setting struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
	From  string `json:"from"` // "flag --http", "environment VAULTMESH_HTTP", "file PATH" or "default"
	Flag  string `json:"flag,omitzero"`
	Env   string `json:"env,omitzero"`
}

// separator is not a dot, because the keys of oidc.roles are foreign names.
const separator = "\x1f"

func keyOf(path string) string { return strings.ReplaceAll(path, ".", separator) }

// tree is a koanf provider of a map that is already parsed.
type tree map[string]any

func (t tree) Read() (map[string]any, error) { return t, nil }
func (t tree) ReadBytes() ([]byte, error)    { return nil, errors.New("not bytes") }

// Load joins flags, environment, file and defaults, the first that says something
// wins, and explains each value. Flags and getenv may be nil.
func Load(flags *pflag.FlagSet, getenv func(string) string) (Config, []Setting, error) {
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	path, file, err := readFile(flags, getenv)
	if err != nil {
		return Config{}, nil, err
	}
	fromFile := koanf.New(separator)
	if err := fromFile.Load(file, nil); err != nil {
		return Config{}, nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	k := koanf.New(separator)
	var explained []Setting
	for _, s := range settings() {
		line := Setting{Key: s.path, Flag: s.flag, From: "default"}
		var value any
		if s.kind != mapping {
			line.Env = s.env()
			if value, err = s.parse(s.def); err != nil {
				return Config{}, nil, err
			}
		}
		if v := fromFile.Get(keyOf(s.path)); v != nil {
			if value, err = s.fit(v); err != nil {
				return Config{}, nil, term.Errorf(term.Usage, "correct the file "+path, "configuration file %s: %s: %v", path, s.path, err)
			}
			line.From = "file " + path
		}
		if v := getenv(s.env()); v != "" && s.kind != mapping {
			if value, err = s.parse(v); err != nil {
				return Config{}, nil, term.Errorf(term.Usage, "correct or unset "+s.env(), "%s: %v", s.env(), err)
			}
			line.From = "environment " + s.env()
		}
		if f := s.changed(flags); f != nil {
			if value, err = s.fromFlag(f); err != nil {
				return Config{}, nil, term.Errorf(term.Usage, "correct --"+s.flag, "--%s: %v", s.flag, err)
			}
			line.From = "flag --" + s.flag
		}
		if value != nil {
			if err := k.Set(keyOf(s.path), value); err != nil {
				return Config{}, nil, err
			}
		}
		line.Value = s.show(value)
		explained = append(explained, line)
	}
	var c Config
	if err := k.Unmarshal("", &c); err != nil {
		return Config{}, nil, term.As(term.Usage, "see vaultmesh config explain for where each value is from", fmt.Errorf("configuration: %w", err))
	}
	return c, explained, nil
}

func readFile(flags *pflag.FlagSet, getenv func(string) string) (path string, _ tree, _ error) {
	path, named := DefaultFile(), false
	if v := getenv("VAULTMESH_CONFIG"); v != "" {
		path, named = v, true
	}
	if flags != nil {
		if f := flags.Lookup("config"); f != nil && f.Changed {
			path, named = f.Value.String(), true
		}
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return path, tree{}, nil
	}
	if err != nil {
		return path, nil, term.As(term.Usage, "name a readable file with --config", fmt.Errorf("configuration file: %w", err))
	}
	var doc map[string]any // and not a tree: maps inside would be trees too
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return path, nil, term.As(term.Usage, "correct the file "+path, fmt.Errorf("configuration file %s is not a YAML mapping: %w", path, err))
	}
	if err := checkKeys("", doc); err != nil {
		return path, nil, term.As(term.Usage, "correct or remove it; vaultmesh config explain lists the known keys", fmt.Errorf("configuration file %s: %w", path, err))
	}
	return path, tree(doc), nil
}

// checkKeys refuses keys that no setting has: a misspelt key would silently be a
// default.
func checkKeys(prefix string, t map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(t)) {
		path := prefix + name
		leaf := slices.IndexFunc(settings(), func(s setting) bool { return s.path == path })
		inner := slices.ContainsFunc(settings(), func(s setting) bool { return strings.HasPrefix(s.path, path+".") })
		if leaf < 0 && !inner {
			return fmt.Errorf("unknown key %q", path)
		}
		if inner {
			sub, ok := t[name].(map[string]any)
			if !ok {
				return fmt.Errorf("key %q must hold a mapping", path)
			}
			if err := checkKeys(path+".", sub); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s setting) changed(flags *pflag.FlagSet) *pflag.Flag {
	if flags == nil || s.flag == "" {
		return nil
	}
	f := flags.Lookup(s.flag)
	if f == nil || !f.Changed || !slices.Equal(f.Annotations[pathAnnotation], []string{s.path}) {
		return nil
	}
	return f
}

func (s setting) fromFlag(f *pflag.Flag) (any, error) {
	if v, ok := f.Value.(pflag.SliceValue); ok {
		return v.GetSlice(), nil
	}
	return s.parse(f.Value.String())
}

// parse reads a value from an environment variable, a flag or the table.
func (s setting) parse(v string) (any, error) {
	switch s.kind {
	case list:
		if v == "" {
			return []string(nil), nil
		}
		return strings.Split(v, ","), nil
	case boolean:
		b, err := strconv.ParseBool(v)
		if err != nil {
			return nil, errors.New("must be true or false")
		}
		return b, nil
	case number:
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return nil, errors.New("must be a number from 1")
		}
		return n, nil
	}
	return v, nil
}

// fit checks the kind of a value from the file.
func (s setting) fit(v any) (any, error) {
	switch s.kind {
	case text:
		if str, ok := v.(string); ok {
			return str, nil
		}
		return nil, errors.New("must be a string")
	case list:
		if str, ok := v.(string); ok {
			return []string{str}, nil
		}
		items, ok := v.([]any)
		out := make([]string, 0, len(items))
		for _, item := range items {
			str, isString := item.(string)
			ok = ok && isString
			out = append(out, str)
		}
		if !ok {
			return nil, errors.New("must be a list of strings")
		}
		return out, nil
	case boolean:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, errors.New("must be true or false")
	case number:
		if n, ok := v.(int); ok && n >= 1 {
			return n, nil
		}
		return nil, errors.New("must be a number from 1")
	}
	if m, ok := v.(map[string]any); ok {
		return m, nil
	}
	return nil, errors.New("must be a mapping")
}

// show is the value as others may see it.
func (s setting) show(v any) any {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if s.url {
			return redact.URL(v)
		}
		return v
	case []string:
		out := make([]string, len(v))
		for i, item := range v {
			if out[i] = item; s.url {
				out[i] = redact.URL(item)
			}
		}
		return out
	case map[string]any:
		if s.path == "layers" { // what layers keep there is not known here
			return slices.Sorted(maps.Keys(v))
		}
		return v
	}
	return v
}

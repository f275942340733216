package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

func (p *program) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "The configuration of nodes and commands",
		Example: "vaultmesh config explain",
	}
	explain := &cobra.Command{
		Use:   "explain",
		Short: "Show every setting, its value and where that is from",
		Long: `Explain lists all settings as up would take them. A flag wins over an environment
variable, that over the configuration file, that over the default. Passwords in
URLs are not shown.`,
		Example: `vaultmesh config explain
VAULTMESH_HTTP=127.0.0.1:0 vaultmesh config explain -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, settings, err := daemon.Load(cmd.Flags(), p.term.Getenv)
			if err != nil {
				return err
			}
			table := term.NewTable("SETTING", "VALUE", "FROM", "ENVIRONMENT")
			for _, s := range settings {
				table.Row(s.Key, valueText(s.Value), s.From, s.Env)
			}
			return p.term.Print(settings, table)
		},
	}
	daemon.AddUpFlags(explain.Flags())
	cmd.AddCommand(explain)
	return cmd
}

func valueText(v any) string {
	switch v := v.(type) {
	case []string:
		return strings.Join(v, ", ")
	case map[string]any:
		b, err := json.Marshal(v)
		if err != nil {
			return "?"
		}
		return string(b)
	}
	return fmt.Sprint(v)
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "What this program was built from, and the layers in it",
		Example: "vaultmesh version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			out := struct {
				Version  string   `json:"version"`
				Go       string   `json:"go"`
				Revision string   `json:"revision,omitzero"`
				Modified bool     `json:"modified"`
				Layers   []string `json:"layers"`
			}{Version: p.root.Version, Go: runtime.Version(), Layers: []string{}}
			for _, l := range p.node() {
				out.Layers = append(out.Layers, l.Name)
			}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					switch s.Key {
					case "vcs.revision":
						out.Revision = s.Value
					case "vcs.modified":
						out.Modified = s.Value == "true"
					}
				}
			}
			table := term.NewTable().Row("version", out.Version).Row("go", out.Go)
			if out.Revision != "" {
				table.Row("revision", out.Revision)
			}
			table.Row("layers", strings.Join(out.Layers, ", "))
			return p.term.Print(out, table)
		},
	}
}

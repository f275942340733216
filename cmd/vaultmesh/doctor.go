package main

import (
	"strings"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

// examined is one line of doctor's output.
type examined struct {
	Check    string           `json:"check"`
	OK       bool             `json:"ok"`
	Detail   string           `json:"detail,omitzero"`
	Findings []daemon.Finding `json:"findings,omitzero"`
}

func (p *program) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check a node and its data directory, and say how to mend each finding",
		Long: `Doctor looks at the configuration, the data directory and the node that runs on it,
and changes nothing. It ends with 0 if all is well and with 6 if it found
something.`,
		Example: `vaultmesh doctor
vaultmesh doctor --data /var/lib/vaultmesh -o json | jq '.[] | select(.ok | not)'`,
		Args: cobra.NoArgs,
		RunE: p.doctor,
	}
	daemon.AddUpFlags(cmd.Flags()) // so that what up would be told can be checked first
	return cmd
}

func (p *program) doctor(cmd *cobra.Command, _ []string) error {
	c, err := p.config(cmd)
	if err != nil {
		return err
	}
	checks := daemon.Checks(p.clock)
	for _, l := range p.layers {
		if l.checks != nil {
			checks = append(checks, l.checks(p)...)
		}
	}
	var lines []examined
	table := term.NewTable("CHECK", "STATE", "DETAIL")
	bad := 0
	err = daemon.Examine(cmd.Context(), c, checks, func(name, well string, findings []daemon.Finding) {
		line := examined{Check: name, OK: len(findings) == 0, Findings: findings}
		if line.OK {
			line.Detail = well
			table.Cells(term.Cell{Text: name}, term.Cell{Text: "ok", Color: term.Good}, term.Cell{Text: well})
		} else {
			bad++
		}
		for _, f := range findings {
			text := f.What
			if f.Mend != "" {
				text = strings.TrimSuffix(text, ".") + "; mend: " + f.Mend
			}
			table.Cells(term.Cell{Text: name}, term.Cell{Text: "FOUND", Color: term.Bad}, term.Cell{Text: text})
		}
		lines = append(lines, line)
	})
	if err != nil {
		return err
	}
	if err := p.term.Print(lines, table); err != nil {
		return err
	}
	if bad > 0 {
		return term.Errorf(term.Findings, "do what each line says", "%d of %d checks found something", bad, len(lines))
	}
	return nil
}

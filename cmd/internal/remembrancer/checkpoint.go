package remembrancer

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

func checkpointCommand(d Deps) *cobra.Command {
	var key bool
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print the log's newest signed head",
		Long: `Print the newest checkpoint as the log signed it (C2SP tlog-checkpoint), after
checking its signature and that it continues the newest one that you saw.
--verifier-key prints the key that any client of transparency logs needs.`,
		Example: `remembrancer checkpoint
remembrancer checkpoint --verifier-key
remembrancer checkpoint -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withNode(cmd.Context(), func(c *client) error { return d.checkpoint(cmd.Context(), c, key) })
		},
	}
	cmd.Flags().BoolVar(&key, "verifier-key", false, "print the log's verifier key only")
	return cmd
}

func (d Deps) checkpoint(ctx context.Context, c *client, keyOnly bool) error {
	var text string
	data := map[string]any{}
	if keyOnly {
		vkey, err := c.logKey(ctx)
		if err != nil {
			return err
		}
		text, data["vkey"] = vkey+"\n", vkey
	} else {
		head, note, vkey, err := c.publishedHead(ctx)
		if err != nil {
			return err
		}
		dir, err := d.Dir()
		if err != nil {
			return err
		}
		if err := c.follow(ctx, dir, vkey, note); err != nil {
			return err
		}
		text = string(note)
		data["origin"], data["size"], data["root"] = head.Origin, head.Size, fmt.Sprintf("%x", head.Root[:])
		data["checkpoint"], data["vkey"] = text, vkey
	}
	if d.Term.Format() != term.TableFormat {
		return d.Term.Print(data, nil)
	}
	_, err := d.Term.Stdout().Write([]byte(text)) // a note holds no control characters
	return err
}

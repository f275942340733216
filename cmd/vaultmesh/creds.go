package main

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
)

func (p *program) credsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "creds",
		Short:   "Credentials for producers, readers and tenants",
		Example: `vaultmesh creds add ci --role producer --domain deploy --domain artifact`,
	}
	cmd.AddCommand(p.credsAddCommand())
	return cmd
}

func (p *program) credsAddCommand() *cobra.Command {
	var role, producer, tenant string
	var domains []string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Issue broker credentials and an HTTP token for a new name",
		Long: `Add makes three files in creds/ of the data directory, all readable for you only:
NAME.creds for the broker, NAME.token for HTTP, and NAME.json, by which the node
knows the token's hash. Give the first two to their owner over a safe way and
delete them here. A running node accepts the token within a second.

Removing NAME.json ends the token. Broker credentials end with their --ttl.`,
		Example: `# A pipeline that records deployments and artifacts, for 90 days
vaultmesh creds add ci --role producer --domain deploy --domain artifact --ttl 2160h

# Somebody who reads
vaultmesh creds add auditor --role reader

# A tenant that submits jobs over HTTP
vaultmesh creds add acme --role submitter --tenant acme`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g := daemon.Grant{Name: args[0], Role: daemon.Role(role), Producer: events.Producer(producer), Tenant: tenant}
			for _, d := range domains {
				g.Domains = append(g.Domains, events.Domain(d))
			}
			return p.addCreds(cmd, g, ttl)
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", string(daemon.Producer), "ROLE: producer, reader, submitter or admin")
	f.StringVar(&producer, "producer", "", "the producer's NAME in events (default: the name of the credentials)")
	f.StringSliceVar(&domains, "domain", nil, "DOMAIN a producer may speak in over NATS (repeatable; default: all but the node's own)")
	f.StringVar(&tenant, "tenant", "", "the TENANT of a submitter")
	f.DurationVar(&ttl, "ttl", 0, "DURATION after which the credentials end, such as 2160h (default: never)")
	return cmd
}

func (p *program) addCreds(cmd *cobra.Command, g daemon.Grant, ttl time.Duration) error {
	c, err := p.config(cmd)
	if err != nil {
		return err
	}
	switch {
	case ttl < 0:
		return term.Errorf(term.Usage, "give a duration such as 2160h", "--ttl %s has passed already", ttl)
	case len(g.Domains) > 0 && g.Role != daemon.Producer:
		return term.Errorf(term.Usage, "leave out --domain, or give --role producer", "--domain is for producers")
	case g.Producer != "" && g.Role != daemon.Producer:
		return term.Errorf(term.Usage, "leave out --producer, or give --role producer", "--producer is for producers")
	}
	creds, token, err := daemon.Issue(c.Data, g, ttl, p.clock, p.rand)
	switch {
	case errors.Is(err, fs.ErrExist):
		return term.As(term.Conflict, "choose another name, or remove those files first", err)
	case err != nil && term.KindOf(err) == term.Failure:
		return term.As(term.Usage, "see vaultmesh creds add --help", err)
	case err != nil:
		return err
	}
	out := struct {
		Name  string `json:"name"`
		Role  string `json:"role"`
		Creds string `json:"creds,omitzero"`
		Token string `json:"token"`
	}{g.Name, string(g.Role), creds, token} // paths, not secrets
	table := term.NewTable()
	if creds != "" {
		table.Row("broker credentials", creds)
	}
	table.Row("HTTP token", token)
	if err := p.term.Print(out, table); err != nil {
		return err
	}
	p.term.Note("Hand %s to its owner over a safe way, and delete the copies here.", strings.Join(compact(creds, token), " and "))
	return nil
}

func compact(paths ...string) []string {
	var out []string
	for _, path := range paths {
		if path != "" {
			out = append(out, path)
		}
	}
	return out
}

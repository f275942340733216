package remembrancer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

func verifyFullCommand(d Deps) *cobra.Command {
	var keyFile, caFile string
	var allow []string
	cmd := &cobra.Command{
		Use:   "verify-full FILE",
		Short: "Verify a file: digest, signature, token, inclusion",
		Long: `Verify the four links that tie a file to the log:

  digest     the log knows the file's SHA-256
  signature  FILE.asc is an OpenPGP signature over the file
  token      FILE.tsr is an RFC 3161 token over the file
  inclusion  its events stand in a sealed checkpoint that continues every
             head of this log that you saw before

Anything missing or wrong fails with exit code 4 and says which link it is;
--allow-missing makes one exception, visible in the report. With --key-file,
--tsa-ca and --allow-missing inclusion no node is needed, and none is started.`,
		Example: `remembrancer verify-full artifact.tar.gz
remembrancer verify-full artifact.tar.gz -o json
remembrancer verify-full report.md --key-file signer.asc --tsa-ca tsa-root.pem --allow-missing inclusion`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			may, err := linkNames(allow)
			if err != nil {
				return err
			}
			return d.verifyFull(cmd.Context(), args[0], keyFile, caFile, may)
		},
	}
	cmd.Flags().StringVar(&keyFile, "key-file", "", "OpenPGP public `KEY` that must have signed; default: the operator's")
	cmd.Flags().StringVar(&caFile, "tsa-ca", "", "PEM `FILE` with the TSA's root certificates; default: the node's")
	cmd.Flags().StringArrayVar(&allow, "allow-missing", nil, "`LINK` that may be missing: digest, signature, token, inclusion (repeatable)")
	return cmd
}

func linkNames(names []string) ([]proof.LinkName, error) {
	var out []proof.LinkName
	for _, s := range names {
		n, err := proof.ParseLinkName(s)
		if err != nil {
			return nil, term.As(term.Usage, "", err)
		}
		out = append(out, n)
	}
	return out, nil
}

// A fullCheck is one run of verify-full.
type fullCheck struct {
	d          Deps
	file       string
	sum        digest
	sig, token []byte // nil if the file is not there
	haveSig    bool   // sig stands beside the file
	haveToken  bool   // token stands beside the file
	pinned     *openpgp.KeyRing
	roots      tsaRoots // for the file's token: the user's alone, or the node's
	sealRoots  tsaRoots // for the log's tokens: the node's and the user's
	report     proof.Report

	// What the log says; empty without a node.
	keys      *logKeys
	about     []proven          // proven events about the file
	signers   map[string]string // fingerprint in them → armored key, if recorded
	sealTime  time.Time         // genTime of the stamped checkpoint, zero if none
	tokenTime time.Time         // genTime of the file's token, zero if none
}

func (d Deps) verifyFull(ctx context.Context, file, keyFile, caFile string, may []proof.LinkName) error {
	f := &fullCheck{d: d, file: file, signers: map[string]string{}}
	if err := f.read(keyFile, caFile); err != nil {
		return err
	}
	f.report = proof.NewReport(filepath.Base(file), f.sum.String())
	var err error
	if f.needsNode(may) {
		err = d.withNode(ctx, func(c *client) error { return f.askLog(ctx, c) })
	} else {
		f.report.Miss(proof.LinkDigest, "not looked up: no node was asked")
		f.report.Miss(proof.LinkInclusion, "not looked up: no node was asked")
	}
	if err != nil {
		return err
	}
	f.checkToken()
	if err := f.checkSignature(); err != nil {
		return err
	}
	f.report.Conclude(may...)
	return d.printReport(&f.report)
}

// read takes in everything that is on this machine.
func (f *fullCheck) read(keyFile, caFile string) (err error) {
	if f.sum, _, err = f.d.hashFile(f.file); err != nil {
		return err
	}
	if f.sig, err = readBeside(f.file+".asc", openpgp.MaxSignatureBytes); err != nil {
		return err
	}
	if f.token, err = readBeside(f.file+".tsr", rfc3161.MaxTokenBytes); err != nil {
		return err
	}
	f.haveSig, f.haveToken = f.sig != nil, f.token != nil
	if keyFile != "" {
		raw, err := readFile(keyFile, openpgp.MaxKeyRingBytes)
		if err != nil {
			return err
		}
		if f.pinned, err = openpgp.ReadKeyRing(raw); err != nil {
			return term.Errorf(term.Usage, "name a file with an OpenPGP public key", "%s: %w", keyFile, err)
		}
	}
	if caFile != "" {
		f.roots, err = rootsFile(caFile)
	}
	return err
}

func readBeside(name string, most int64) ([]byte, error) {
	b, err := readFile(name, most)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, errTooLarge) {
		return []byte{}, nil // refused as malformed when it is checked
	}
	return b, err
}

// needsNode: without inclusion, a node is only asked for a key or root that is
// needed and was not given.
func (f *fullCheck) needsNode(may []proof.LinkName) bool {
	return !slices.Contains(may, proof.LinkInclusion) ||
		f.sig != nil && f.pinned == nil ||
		f.token != nil && f.roots.pool == nil
}

// askLog fetches keys and roots and checks digest and inclusion. Its error means
// that there is no verdict.
func (f *fullCheck) askLog(ctx context.Context, c *client) error {
	keys, err := c.keys(ctx)
	if err != nil {
		return err
	}
	f.keys = &keys
	if err = f.fetchRoots(ctx, c); err != nil {
		return err
	}
	f.anchor("log key", keys.vkey, false)
	f.anchor("node key", keys.node.Fingerprint(), false)
	found, err := c.artifact(ctx, f.sum)
	switch {
	case term.KindOf(err) == term.NotFound || err == nil && len(found.Events) == 0:
		f.report.Miss(proof.LinkDigest, "the log does not know this SHA-256")
		f.report.Miss(proof.LinkInclusion, "the log has no event about this file")
		return nil
	case err != nil:
		return err
	}
	err = f.checkInclusion(ctx, c, found)
	if term.KindOf(err) == term.Unverified {
		f.report.Fail(proof.LinkInclusion, "%v", err)
		return nil
	}
	return err
}

// fetchRoots completes the user's roots with the node's: its checkpoints may be
// stamped by another authority than the file was.
func (f *fullCheck) fetchRoots(ctx context.Context, c *client) (err error) {
	if f.sealRoots, err = c.roots(ctx, ""); err != nil {
		return err
	}
	if f.roots.pool == nil {
		f.roots = f.sealRoots
		return nil
	}
	f.sealRoots = f.sealRoots.and(f.roots)
	return nil
}

// checkInclusion proves the events about the file, oldest first, and the seal of
// the checkpoint that holds the last of them.
func (f *fullCheck) checkInclusion(ctx context.Context, c *client, found artifact) error {
	dir, err := f.d.Dir()
	if err != nil {
		return err
	}
	events := found.Events
	if len(events) > maxProven {
		f.report.Warn("%d events name this file; the first and the last %d were checked", len(events), maxProven/2)
		events = slices.Concat(events[:maxProven/2], events[len(events)-maxProven/2:])
	}
	var missing error
	for i, e := range events {
		p, err := c.prove1(ctx, e, f.keys.vkey, i == len(events)-1)
		switch {
		case term.KindOf(err) == term.Unavailable || term.KindOf(err) == term.NotFound:
			missing = err // recorded, not sealed yet
			continue
		case err != nil:
			return err
		}
		note := p.receipt.Checkpoint
		if p.receipt.Latest != nil {
			note = p.receipt.Latest.Checkpoint
		}
		if err := c.follow(ctx, dir, f.keys.vkey, []byte(note)); err != nil {
			return err
		}
		if err := f.admit(p); err != nil {
			return err
		}
	}
	if len(f.about) == 0 {
		if missing != nil {
			f.report.Miss(proof.LinkDigest, "its events are not sealed yet")
			f.report.Miss(proof.LinkInclusion, "its events are not sealed yet: %v", missing)
			return nil
		}
		f.report.Miss(proof.LinkDigest, "no proven event names this SHA-256")
		f.report.Miss(proof.LinkInclusion, "no proven event names this SHA-256")
		return nil
	}
	return f.passInclusion()
}

// maxProven bounds the receipts that one verification asks for.
const maxProven = 64

// admit takes a proven event if it is about the file.
func (f *fullCheck) admit(p proven) error {
	facts, ok := factsAbout(p.event, f.sum)
	if !ok {
		f.report.Warn("the node names event %s, which is not about this file", p.event.ID)
		return nil
	}
	f.about = append(f.about, p)
	if facts.Fingerprint != "" {
		f.signers[facts.Fingerprint] = facts.Key
	}
	return nil
}

func (f *fullCheck) passInclusion() error {
	first, last := f.about[0], f.about[len(f.about)-1]
	s, err := checkSeal(last.receipt, *f.keys, f.sealRoots)
	in := f.report.Link(proof.LinkInclusion)
	in.Facts = proof.Facts{
		Origin: last.head.Origin, Index: &first.receipt.Index, Size: &last.head.Size, Root: last.head.Root.String(),
		NodeKey: s.node, TSA: s.tsa, ConsistentTo: &last.newest.Size,
	}
	dg := f.report.Link(proof.LinkDigest)
	dg.Facts.Index = &first.receipt.Index
	for _, p := range f.about {
		dg.Facts.EventIDs = append(dg.Facts.EventIDs, string(p.event.ID))
	}
	f.report.Pass(proof.LinkDigest, fmt.Sprintf("%s of the log %s it", count(len(f.about), "event"), verb(len(f.about), "names", "name")))
	if err != nil {
		f.report.Fail(proof.LinkInclusion, "%v", err)
		return nil
	}
	how := "signed and sealed"
	if s.genTime.IsZero() {
		f.report.Warn("the checkpoint has no time-stamp yet; ask again later")
	} else {
		f.sealTime = s.genTime
		in.Facts.GenTime = &s.genTime
		how += ", stamped " + s.genTime.Format(time.RFC3339)
	}
	f.report.Pass(proof.LinkInclusion, fmt.Sprintf("%s below a checkpoint of %d entries, %s, consistent with %d",
		count(len(f.about), "event"), last.head.Size, how, last.newest.Size))
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func (f *fullCheck) anchor(name, value string, pinned bool) {
	f.report.Anchors = append(f.report.Anchors, proof.Anchor{Name: name, Value: value, Pinned: pinned})
}

func (f *fullCheck) checkToken() {
	name := filepath.Base(f.file) + ".tsr"
	if f.token == nil {
		f.report.Miss(proof.LinkToken, "%s is not there", name)
		return
	}
	for _, c := range f.roots.trusted {
		f.anchor("tsa root", certSum(c), f.roots.pinned)
	}
	v, err := f.d.verifyFileToken(f.file, f.sum, f.token, f.roots)
	if err != nil {
		f.report.Fail(proof.LinkToken, "%s: %v", name, err)
		return
	}
	f.tokenTime = v.GenTime
	facts := &f.report.Link(proof.LinkToken).Facts
	facts.GenTime, facts.TSA = &v.GenTime, v.Chain[0].Subject.String()
	f.report.Pass(proof.LinkToken, "existed at "+v.GenTime.Format(time.RFC3339))
}

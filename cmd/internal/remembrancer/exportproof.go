package remembrancer

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/bundle"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

// bundleSuffix ends the name of a proof bundle.
const bundleSuffix = ".proof.tgz"

func exportProofCommand(d Deps) *cobra.Command {
	var out, ca string
	var within time.Duration
	var force bool
	var allow []string
	cmd := &cobra.Command{
		Use:   "export-proof FILE",
		Short: "Write everything that proves a file into one archive",
		Long: `Write FILE.proof.tgz into the current directory: signature, token, keys, the
TSA's certificates, the file's events with their proofs, and a time-stamped
checkpoint. It waits until the checkpoint has its stamp, and verifies the archive
before writing it. A stranger checks it with gpg, openssl and sha256sum, or with
verify-proof; the file itself is not inside.`,
		Example: `remembrancer export-proof artifact.tar.gz
remembrancer export-proof dist/artifact.tar.gz --out proofs/artifact.proof.tgz`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			may, err := linkNames(allow)
			if err != nil {
				return err
			}
			if out == "" {
				out = filepath.Base(args[0]) + bundleSuffix
			}
			return d.exportProof(cmd.Context(), args[0], out, ca, within, may, force)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "where to write it; default FILE.proof.tgz in the current directory")
	cmd.Flags().StringVar(&ca, "tsa-ca", "", "PEM `FILE` with the TSA's root certificates; beside the node's")
	cmd.Flags().DurationVar(&within, "wait", 2*time.Minute, "how long to wait for the checkpoint's time-stamp")
	cmd.Flags().BoolVar(&force, "force", false, "replace another file that stands there")
	cmd.Flags().StringArrayVar(&allow, "allow-missing", nil, "`LINK` that may be missing: signature, token (repeatable)")
	return cmd
}

func (d Deps) exportProof(ctx context.Context, file, out, ca string, within time.Duration, may []proof.LinkName, force bool) error {
	f := &fullCheck{d: d, file: file, signers: map[string]string{}}
	if err := f.read("", ca); err != nil {
		return err
	}
	return d.withNode(ctx, func(c *client) error {
		k, err := c.keys(ctx)
		if err != nil {
			return err
		}
		f.keys = &k
		if err := f.fetchRoots(ctx, c); err != nil {
			return err
		}
		contents, err := f.gather(ctx, c, within)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := bundle.Write(&b, contents); err != nil {
			return unverified("", "%w", err)
		}
		report, err := d.verifyBundle(ctx, b.Bytes(), file, bundle.Trust{LogVKey: k.vkey, Operator: k.operator.Fingerprint(), TSARoots: f.sealRoots.pool})
		if err != nil {
			return err
		}
		report.Conclude(may...)
		if err := notProven(&report, "sign and timestamp the file first, or allow what is missing with --allow-missing"); err != nil {
			return fmt.Errorf("nothing was written: %w", err)
		}
		if err := writeFile(out, b.Bytes(), 0o644, force || isBundleOf(out, f.sum)); err != nil {
			return err
		}
		return d.printExport(out, k.operator.Fingerprint(), contents, report)
	})
}

// gather collects the evidence around one stamped checkpoint that holds every
// event about the file.
func (f *fullCheck) gather(ctx context.Context, c *client, within time.Duration) (bundle.Contents, error) {
	found, err := c.artifact(ctx, f.sum)
	if term.KindOf(err) == term.NotFound || err == nil && len(found.Events) == 0 {
		return bundle.Contents{}, unverified("record it first: sign, timestamp or record deploy --evidence", "the log does not know %s", f.sum)
	}
	if err != nil {
		return bundle.Contents{}, err
	}
	list := found.Events
	if len(list) > maxProven {
		f.d.Term.Warn("%d events name this file; the last %d go into the bundle", len(list), maxProven)
		list = list[len(list)-maxProven:]
	}
	head, stamped, err := f.stampedHead(ctx, c, list[len(list)-1], within)
	if err != nil {
		return bundle.Contents{}, err
	}
	info, err := os.Stat(f.file)
	if err != nil {
		return bundle.Contents{}, fileError(err)
	}
	out := bundle.Contents{
		Artifact:    bundle.Artifact{Name: filepath.Base(f.file), Size: info.Size(), SHA256: f.sum.String()},
		Created:     f.d.Clock(),
		OperatorKey: f.keys.operatorArmor, NodeKey: f.keys.nodeArmor, LogVKey: f.keys.vkey,
		Checkpoint: []byte(stamped.Checkpoint), CheckpointSignature: []byte(stamped.CheckpointAsc), CheckpointToken: stamped.Token,
		Cosigned: c.cosigned(ctx, stamped.Checkpoint, f.keys.vkey, head),
	}
	for _, e := range list {
		if e.Index >= head.Size {
			continue // recorded after the question
		}
		body, err := f.addEvent(ctx, c, e, head, []byte(stamped.Checkpoint), &out)
		if err != nil {
			return bundle.Contents{}, err
		}
		f.fillFromLog(body)
	}
	out.Signature, out.Token = f.sig, f.token
	f.addSigner(&out)
	out.TSAChain = chainOf(f.sealRoots, f.token, stamped.Token)
	return out, nil
}

// stampedHead waits for the checkpoint that holds the event and has a token.
func (f *fullCheck) stampedHead(ctx context.Context, c *client, last indexEvent, within time.Duration) (proof.Checkpoint, receipt, error) {
	e, _, err := events.Parse(last.Event)
	if err != nil {
		return proof.Checkpoint{}, receipt{}, unverified("", "event at index %d: %w", last.Index, err)
	}
	f.d.Term.Note("waiting for the checkpoint's time-stamp (at most %v)", within)
	r, err := c.waitReceipt(ctx, recorded{ID: e.ID, Source: e.Source}, within, true)
	if err != nil {
		return proof.Checkpoint{}, receipt{}, err
	}
	p, err := checkReceipt(r, e.ID, f.keys.vkey)
	if err != nil {
		return proof.Checkpoint{}, receipt{}, err
	}
	if _, err := checkSeal(r, *f.keys, f.sealRoots); err != nil {
		return proof.Checkpoint{}, receipt{}, unverified("", "%w", err)
	}
	return p.head, r, nil
}

// addEvent proves one event in the bundle's checkpoint and adds it.
func (f *fullCheck) addEvent(ctx context.Context, c *client, e indexEvent, head proof.Checkpoint, note []byte, out *bundle.Contents) (events.Event, error) {
	parsed, body, err := events.Parse(e.Event)
	if err != nil {
		return parsed, unverified("", "event at index %d: %w", e.Index, err)
	}
	path, err := c.prove(ctx, e.Index, head, note)
	if err != nil {
		return parsed, err
	}
	if _, _, err := proof.VerifyTLogProof(path, proof.LeafHash(body), f.keys.vkey); err != nil {
		return parsed, unverified("", "event at index %d: %w", e.Index, err)
	}
	if facts, ok := factsAbout(parsed, f.sum); ok && facts.Fingerprint != "" {
		f.signers[facts.Fingerprint] = facts.Key
	}
	out.Events = append(out.Events, bundle.Event{Index: e.Index, Body: body, Proof: path})
	return parsed, nil
}

// fillFromLog takes signature and token from the log where no file stands beside
// the artifact; the newest wins. They are verified with the bundle.
func (f *fullCheck) fillFromLog(e events.Event) {
	var p struct {
		SHA256    string `json:"sha256"`
		Signature string `json:"signature"`
		Token     []byte `json:"token"`
	}
	if json.Unmarshal(e.Data, &p) != nil || p.SHA256 != f.sum.String() {
		return
	}
	if e.Type == remembrancer.ArtifactSignedType && !f.haveSig {
		f.sig = []byte(p.Signature)
	}
	if e.Type == remembrancer.ArtifactTimestampedType && !f.haveToken {
		f.token = p.Token
	}
}

// addSigner adds the key of a signer who is not the operator.
func (f *fullCheck) addSigner(out *bundle.Contents) {
	ring, err := openpgp.ReadKeyRing(f.keys.operatorArmor)
	if f.sig == nil || err != nil {
		return
	}
	_, _, err = f.d.verifyDetached(f.file, ring, f.sig, time.Time{})
	if !errors.Is(err, openpgp.ErrUnknownKey) {
		return
	}
	for _, fingerprint := range sortedKeys(f.signers) {
		armored := []byte(f.signers[fingerprint])
		ring, err := openpgp.ReadKeyRing(armored)
		if err != nil {
			continue
		}
		if _, _, err := f.d.verifyDetached(f.file, ring, f.sig, time.Time{}); !errors.Is(err, openpgp.ErrUnknownKey) {
			out.SignerKey = armored
			return
		}
	}
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// chainOf joins the certificates of both tokens and the roots.
func chainOf(roots tsaRoots, tokens ...[]byte) []byte {
	var certs []*x509.Certificate
	for _, token := range tokens {
		if parsed, err := rfc3161.ParseToken(token); err == nil {
			certs = append(certs, parsed.Certificates...)
		}
	}
	var b bytes.Buffer
	seen := map[string]bool{}
	for _, c := range append(certs, roots.certs...) {
		if !seen[string(c.Raw)] {
			seen[string(c.Raw)] = true
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // to memory
		}
	}
	return b.Bytes()
}

// cosigned returns the checkpoint with its witnesses' lines, nil without any.
// What witnesses say is extra, so that no error of theirs stops an export.
func (c *client) cosigned(ctx context.Context, note, vkey string, head proof.Checkpoint) []byte {
	var answer struct {
		Seals []struct {
			Kind string `json:"kind"`
			Line string `json:"line"`
		} `json:"seals"`
	}
	if err := c.get(ctx, "/v1/checkpoint", url.Values{"size": {strconv.FormatUint(head.Size, 10)}}, &answer); err != nil {
		return nil
	}
	full := note
	for _, s := range answer.Seals {
		if s.Kind == remembrancer.SealCosignature && s.Line != "" {
			full += string(bytes.TrimSuffix([]byte(s.Line), []byte("\n"))) + "\n"
		}
	}
	if full == note || sameHead(full, vkey, head) != nil {
		return nil
	}
	return []byte(full)
}

// isBundleOf reports whether a bundle about the same bytes stands at name: that
// may be replaced by a newer one.
func isBundleOf(name string, sum digest) bool {
	f, err := os.Open(name)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	b, err := bundle.Read(f, bundle.DefaultLimits)
	return err == nil && b.Manifest.Artifact.SHA256 == sum.String()
}

func (d Deps) printExport(out, operator string, c bundle.Contents, r proof.Report) error {
	in := r.Link(proof.LinkInclusion).Facts
	t := term.NewTable().Row("wrote", out).Row("sha256", c.Artifact.SHA256).Row("events", strconv.Itoa(len(c.Events)))
	if in.Size != nil {
		t.Row("checkpoint", fmt.Sprintf("%s at %d entries", in.Origin, *in.Size))
	}
	if in.GenTime != nil {
		t.Row("stamped", in.GenTime.Format(time.RFC3339))
	}
	t.Row("log key", c.LogVKey).Row("operator key", operator)
	for _, w := range r.Warnings {
		d.Term.Warn("%s", w)
	}
	return d.Term.Print(struct {
		Wrote    string       `json:"wrote"`
		SHA256   string       `json:"sha256"`
		Events   int          `json:"events"`
		LogVKey  string       `json:"log_vkey"`
		Operator string       `json:"operator"` // fingerprint
		Links    []proof.Link `json:"links"`
	}{out, c.Artifact.SHA256, len(c.Events), c.LogVKey, operator, r.Links}, t)
}

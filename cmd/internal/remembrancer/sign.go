package remembrancer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/internal/keys"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
)

// PassphraseVariable names the environment variable with the passphrase of a
// locked key file. A command line would show it to every process.
const PassphraseVariable = "VAULTMESH_KEY_PASSPHRASE" //nolint:gosec // a name, no passphrase

func signCommand(d Deps) *cobra.Command {
	var w waiting
	var key, out string
	var force bool
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a file and record the signature",
		Long: `Sign a file with OpenPGP into FILE.asc, then record the signature.

The key is the operator's unless --key names another: a file with an armored
secret key, or a key of your own GnuPG by key id, fingerprint or address. The
passphrase of a locked key file is read from ` + PassphraseVariable + `.`,
		Example: `remembrancer sign artifact.tar.gz
remembrancer sign artifact.tar.gz --key 6E4082C6A410F340
remembrancer sign artifact.tar.gz --key release-key.asc --out sigs/artifact.asc`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = args[0] + ".asc"
			}
			return d.sign(cmd.Context(), args[0], key, out, force, w)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "key `FILE`, or GnuPG key id, fingerprint or address; default: the operator's key")
	cmd.Flags().StringVar(&out, "out", "", "where to write the signature; default FILE.asc")
	cmd.Flags().BoolVar(&force, "force", false, "replace another signature that stands there")
	w.addFlags(cmd)
	return cmd
}

// signer opens the key.
func (d Deps) signer(key string) (openpgp.Signer, error) {
	name, mend := key, "name a key file or a key of your GnuPG"
	if key == "" {
		dir, err := d.Dir()
		if err != nil {
			return nil, err
		}
		name, mend = filepath.Join(dir, "keys", "operator.key"), "make one with: vaultmesh up; or name a key with --key"
	}
	secret, err := keys.ReadSecret(name)
	switch {
	case err == nil:
		k, err := openpgp.ReadKey(secret, []byte(d.Term.Getenv(PassphraseVariable)))
		if errors.Is(err, openpgp.ErrPassphrase) {
			return nil, term.Errorf(term.NotAllowed, "set "+PassphraseVariable, "%s: %w", name, err)
		}
		if err != nil {
			return nil, term.Errorf(term.Usage, mend, "%s: %w", name, err)
		}
		return k, nil
	case errors.Is(err, keys.ErrExposed):
		return nil, term.As(term.NotAllowed, "chmod 600 "+name, err)
	case errors.Is(err, fs.ErrNotExist) && key != "":
		g, err := keys.NewGPG(key, d.GPG)
		if err != nil {
			return nil, gpgError(err)
		}
		return g, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, term.Errorf(term.NotFound, mend, "no operator key: %w", err)
	}
	return nil, err
}

func gpgError(err error) error {
	switch {
	case errors.Is(err, keys.ErrNoSuchKey):
		return term.As(term.NotFound, "gpg --list-secret-keys shows the keys", err)
	case errors.Is(err, keys.ErrLocked):
		return term.As(term.NotAllowed, "unlock the key in a terminal, then try again", err)
	case errors.Is(err, keys.ErrNoGPG):
		return term.As(term.Unavailable, "install GnuPG, or name a key file", err)
	}
	return err
}

func (d Deps) sign(ctx context.Context, file, key, out string, force bool, w waiting) error {
	sum, size, err := d.hashFile(file)
	if err != nil {
		return err
	}
	// The node comes first: starting it makes the operator's key.
	return d.withNode(ctx, func(c *client) error {
		s, err := d.signer(key)
		if err != nil {
			return err
		}
		operator, err := c.operatorKey(ctx)
		if err != nil {
			return err
		}
		asc, err := d.standingSignature(file, out, s, force)
		if err != nil {
			return err
		}
		if asc == nil {
			if asc, err = d.signFile(file, sum, s); err != nil {
				return err
			}
			if err := writeFile(out, asc, 0o644, force); err != nil {
				return err
			}
		}
		ascSum := sha256.Sum256(asc)
		p := &remembrancer.ArtifactSigned{
			SHA256: sum.String(), Name: filepath.Base(file), Size: size,
			Fingerprint: s.Fingerprint(), Signature: string(asc), SignatureSHA256: hex.EncodeToString(ascSum[:]),
		}
		if s.Fingerprint() != operator.Fingerprint() {
			public, err := s.PublicArmor()
			if err != nil {
				return gpgError(err)
			}
			p.PublicKey = string(public)
		}
		w.onceFor(p.Name, asc)
		out := recordResult{SHA256: sum.String(), Wrote: out, Signer: s.Fingerprint()}
		return d.recordArtifact(ctx, c, "signature", p, w, out)
	})
}

func (d Deps) signFile(file string, sum digest, s openpgp.Signer) ([]byte, error) {
	var asc []byte
	again := sha256.New()
	if _, err := d.through(file, "signing", func(r io.Reader) (err error) {
		asc, err = s.SignDetached(io.TeeReader(r, again), d.Clock())
		return err
	}); err != nil {
		return nil, fmt.Errorf("sign %s: %w", file, gpgError(err))
	}
	if digest(again.Sum(nil)) != sum {
		return nil, term.Errorf(term.Conflict, "sign it when nobody writes to it", "%s changed while it was read", file)
	}
	return asc, nil
}

// standingSignature returns the signature that stands at out already if it is a
// good one by the same key: then a repeat of the command, such as after a lost
// answer, records it instead of making another. It is nil if there is none.
func (d Deps) standingSignature(file, out string, s openpgp.Signer, force bool) ([]byte, error) {
	asc, err := readBeside(out, openpgp.MaxSignatureBytes)
	if err != nil || asc == nil || force {
		return nil, err
	}
	public, err := s.PublicArmor()
	if err != nil {
		return nil, gpgError(err)
	}
	ring, err := openpgp.ReadKeyRing(public)
	if err != nil {
		return nil, err
	}
	if _, readErr, err := d.verifyDetached(file, ring, asc, time.Time{}); readErr != nil {
		return nil, readErr
	} else if err != nil {
		return nil, term.Errorf(term.Conflict, "choose another name with --out, or replace it with --force",
			"%s is there and no signature of %s over this file", out, s.Fingerprint())
	}
	d.Term.Note("%s holds a good signature of this key already", out)
	return asc, nil
}

// onceFor makes a repeat with the same bytes the same event.
func (w *waiting) onceFor(name string, b []byte) {
	if w.key == "" {
		sum := sha256.Sum256(append([]byte(name+"\x00"), b...))
		w.key = "once-" + hex.EncodeToString(sum[:])
	}
}

// recordArtifact records what stands beside a file and prints both.
func (d Deps) recordArtifact(ctx context.Context, c *client, what string, p interface{ Check() error }, w waiting, out recordResult) error {
	if err := p.Check(); err != nil {
		return term.Errorf(term.Usage, "", "%s is written, but cannot be recorded: %w", out.Wrote, err)
	}
	if err := d.recordAndWait(ctx, c, what, p, w, &out); err != nil {
		return fmt.Errorf("%s is written; recording it: %w", out.Wrote, err)
	}
	return d.printRecord(out)
}

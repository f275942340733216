package remembrancer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/bundle"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
)

func verifyProofCommand(d Deps) *cobra.Command {
	var key, vkey, ca string
	var allow []string
	cmd := &cobra.Command{
		Use:   "verify-proof BUNDLE [FILE]",
		Short: "Verify a proof bundle, offline",
		Long: `Verify a bundle that export-proof wrote, without a node and without a network.
FILE is what the bundle proves; by default the file of that name beside it.

A bundle brings its own keys, which prove nothing by themselves: compare the
fingerprints in the report with ones from elsewhere, or name them with --key,
--log-vkey and --tsa-ca.`,
		Example: `remembrancer verify-proof artifact.tar.gz.proof.tgz artifact.tar.gz
remembrancer verify-proof artifact.tar.gz.proof.tgz --key 297BE5B308041DEFF3EFE4BD6E4082C6A410F340 --log-vkey log.vkey --tsa-ca tsa-root.pem`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			may, err := linkNames(allow)
			if err != nil {
				return err
			}
			file := ""
			if len(args) == 2 {
				file = args[1]
			} else if name, ok := strings.CutSuffix(args[0], bundleSuffix); ok {
				if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
					file = name
				}
			}
			return d.verifyProof(cmd.Context(), args[0], file, key, vkey, ca, may)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "full `FINGERPRINT` or key file of the operator, or of the signer if another")
	cmd.Flags().StringVar(&vkey, "log-vkey", "", "the log's verifier `KEY`, or a file with it")
	cmd.Flags().StringVar(&ca, "tsa-ca", "", "PEM `FILE` with the TSA's root certificates")
	cmd.Flags().StringArrayVar(&allow, "allow-missing", nil, "`LINK` that may be missing: digest, signature, token, inclusion (repeatable)")
	return cmd
}

func (d Deps) verifyProof(ctx context.Context, archive, file, key, vkey, ca string, may []proof.LinkName) error {
	raw, err := readFile(archive, bundle.DefaultLimits.Compressed)
	if errors.Is(err, errTooLarge) {
		return unverified("", "%w", err)
	}
	if err != nil {
		return err
	}
	b, err := bundle.Read(bytes.NewReader(raw), bundle.DefaultLimits)
	if err != nil {
		return unverified("", "%s: %w", archive, err)
	}
	var trust bundle.Trust
	if trust.LogVKey, err = vkeyArgument(vkey); err != nil {
		return err
	}
	if ca != "" {
		roots, err := rootsFile(ca)
		if err != nil {
			return err
		}
		trust.TSARoots = roots.pool
	}
	if key != "" {
		fingerprint, err := keyArgument(key)
		if err != nil {
			return err
		}
		operator, err := oneKey(b.File("keys/operator.asc"))
		isOperator := err == nil && operator.Fingerprint() == fingerprint
		if isOperator || b.File("keys/signer.asc") == nil {
			trust.Operator = fingerprint
		} else {
			trust.Signer = fingerprint
		}
	}
	report, err := d.verifyBundle(ctx, raw, file, trust)
	if err != nil {
		return err
	}
	report.Conclude(may...)
	return d.printReport(&report)
}

// verifyBundle reads a bundle as a stranger would, and checks it.
func (d Deps) verifyBundle(ctx context.Context, raw []byte, file string, trust bundle.Trust) (proof.Report, error) {
	b, err := bundle.Read(bytes.NewReader(raw), bundle.DefaultLimits)
	if err != nil {
		return proof.Report{}, unverified("", "%w", err)
	}
	var subject bundle.Subject
	if file != "" {
		f, _, err := openRegular(file)
		if err != nil {
			return proof.Report{}, err
		}
		defer f.Close()
		subject.Data = f
	}
	return bundle.Verify(ctx, b, subject, trust)
}

// vkeyArgument is a verifier key, or a file that holds one.
func vkeyArgument(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if _, _, err := proof.ParseVKey(s); err == nil {
		return s, nil
	}
	b, err := readFile(s, 1<<10)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	vkey := strings.TrimSpace(string(b))
	if _, _, err := proof.ParseVKey(vkey); err != nil {
		return "", term.Errorf(term.Usage, "give the key as in keys/log.vkey, or name a file with it", "--log-vkey: neither a key nor a file with one: %w", err)
	}
	return vkey, nil
}

// keyArgument is a full fingerprint, or a file with one public key.
func keyArgument(s string) (string, error) {
	hex := strings.ToUpper(strings.ReplaceAll(s, " ", ""))
	if n := len(hex); (n == 40 || n == 64) && strings.Trim(hex, "0123456789ABCDEF") == "" {
		return hex, nil
	}
	b, err := readFile(s, openpgp.MaxKeyRingBytes)
	if err != nil {
		return "", term.Errorf(term.Usage, "give a full fingerprint of 40 or 64 hex digits, or a key file; short ids can be forged", "--key: %w", err)
	}
	key, err := oneKey(b)
	if err != nil {
		return "", term.Errorf(term.Usage, "", "--key: %s: %w", s, err)
	}
	return key.Fingerprint(), nil
}

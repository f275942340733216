package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// The reasons for which gpg does not sign.
var (
	// ErrNoGPG: no gpg program was found. Install GnuPG, or use a key file.
	ErrNoGPG = errors.New("gpg is not installed")
	// ErrNoSuchKey: gpg has no usable secret key for the id, or more than one.
	ErrNoSuchKey = errors.New("no such secret key")
	// ErrLocked: the key wants a passphrase and gpg could not ask for it, or
	// the answer was wrong. Unlock it in a terminal and try again.
	ErrLocked = errors.New("key is locked")
	// ErrGPG: gpg failed in another way; the error quotes it.
	ErrGPG = errors.New("gpg failed")
)

// DefaultGPGTimeout bounds one run of gpg. It is long: pinentry waits for a
// person.
const DefaultGPGTimeout = 2 * time.Minute

const (
	maxGPGOutput = 1 << 20
	maxGPGErrors = 64 << 10
)

// GPGOptions say where gpg and its keys are.
type GPGOptions struct {
	Program string        // "" is gpg from PATH
	Home    string        // GNUPGHOME; "" is the user's own
	Timeout time.Duration // of one run; 0 is [DefaultGPGTimeout]
}

// GPG signs with a secret key that stays in the user's GnuPG. It is safe for
// concurrent use.
type GPG struct {
	options     GPGOptions
	fingerprint string
}

// NewGPG finds the one secret key that id (a fingerprint, key id or user id)
// names. Errors wrap [ErrNoGPG], [ErrNoSuchKey] or [ErrGPG].
func NewGPG(id string, o GPGOptions) (*GPG, error) {
	if id == "" {
		return nil, fmt.Errorf("find key: empty id: %w", ErrNoSuchKey)
	}
	g := &GPG{options: o}
	res := g.run(nil, "--with-colons", "--fixed-list-mode", "--list-secret-keys", "--", id)
	found, why := secretKeys(res.out)
	switch {
	case len(found) == 1:
		g.fingerprint = found[0]
		return g, nil
	case len(found) > 1:
		return nil, fmt.Errorf("find key %q: %d keys match, name one by its fingerprint (%s): %w", id, len(found), strings.Join(found, ", "), ErrNoSuchKey)
	case why != "":
		return nil, fmt.Errorf("find key %q: the key is %s: %w", id, why, ErrNoSuchKey)
	case res.err != nil && !strings.Contains(res.status, "[GNUPG:] ERROR keylist.getkey "+strconv.Itoa(noSecretKey)):
		return nil, fmt.Errorf("find key %q: %w", id, res.err)
	}
	return nil, fmt.Errorf("find key %q: %w", id, ErrNoSuchKey)
}

// secretKeys reads gpg's colon listing (doc/DETAILS): the fingerprints of
// usable secret keys, and why the last other one is not usable.
func secretKeys(listing []byte) (found []string, why string) {
	usable, primary := false, false
	for _, line := range strings.Split(string(listing), "\n") {
		f := strings.Split(line, ":")
		switch {
		case f[0] == "sec" && len(f) > 1:
			primary = true
			usable = true
			switch f[1] {
			case "r":
				usable, why = false, "revoked"
			case "e":
				usable, why = false, "expired"
			case "d", "i", "n":
				usable, why = false, "not valid"
			}
		case f[0] == "ssb":
			primary = false
		case f[0] == "fpr" && primary && len(f) > 9:
			if usable {
				found = append(found, strings.ToUpper(f[9]))
			}
			primary = false
		}
	}
	return found, why
}

// Fingerprint is the primary key's full fingerprint in upper-case hex.
func (g *GPG) Fingerprint() string { return g.fingerprint }

// PublicArmor returns the public key as one armored block.
func (g *GPG) PublicArmor() ([]byte, error) {
	res := g.run(nil, "--armor", "--export", "--", g.fingerprint)
	if res.err != nil {
		return nil, fmt.Errorf("export key %s: %w", g.fingerprint, res.err)
	}
	if len(res.out) == 0 {
		return nil, fmt.Errorf("export key %s: %w", g.fingerprint, ErrNoSuchKey)
	}
	return res.out, nil
}

// SignDetached signs what r holds and returns an armored detached signature
// over SHA-512. gpg claims its own time: at is not used. Errors wrap
// [ErrNoGPG], [ErrNoSuchKey], [ErrLocked] or [ErrGPG], or are r's own.
func (g *GPG) SignDetached(r io.Reader, at time.Time) (armored []byte, err error) {
	_ = at
	res := g.run(r, "--digest-algo", "SHA512", "--local-user", g.fingerprint, "--armor", "--detach-sign")
	if res.err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", g.fingerprint, res.err)
	}
	if !strings.Contains(res.status, "SIG_CREATED ") || len(res.out) == 0 {
		return nil, fmt.Errorf("sign with key %s: gpg made no signature: %w", g.fingerprint, ErrGPG)
	}
	return res.out, nil
}

type result struct {
	out    []byte
	status string // machine-readable lines and messages
	err    error
}

// run starts gpg in batch mode. Messages are for people and translated; only
// the status lines decide what an error means.
func (g *GPG) run(stdin io.Reader, args ...string) result {
	program, timeout := g.options.Program, g.options.Timeout
	if program == "" {
		program = "gpg"
	}
	if timeout == 0 {
		timeout = DefaultGPGTimeout
	}
	head := []string{"--batch", "--no-tty", "--status-fd", "2"}
	if g.options.Home != "" {
		head = append(head, "--homedir", g.options.Home)
	}
	limit, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cmd := exec.CommandContext(limit, program, append(head, args...)...)
	cmd.WaitDelay = time.Second
	out, messages := &capped{max: maxGPGOutput}, &capped{max: maxGPGErrors}
	cmd.Stdout, cmd.Stderr = out, messages
	in := &watched{r: stdin}
	if stdin != nil {
		cmd.Stdin = in
	}
	err := cmd.Run()
	res := result{out: out.b.Bytes(), status: messages.b.String()}
	switch {
	case errors.Is(err, exec.ErrNotFound):
		res.err = fmt.Errorf("%q: %w", program, ErrNoGPG)
	case limit.Err() != nil:
		res.err = fmt.Errorf("no answer in %s: %w", timeout, ErrLocked)
	// gpg signs what it got before the reader failed: never use that.
	case in.failed() != nil:
		res.err = fmt.Errorf("read data to sign: %w", in.failed())
	case out.over:
		res.err = fmt.Errorf("more than %d bytes of output: %w", maxGPGOutput, ErrGPG)
	case err != nil:
		res.err = meaning(res.status, err)
	}
	return res
}

// noSecretKey is GPG_ERR_NO_SECKEY of libgpg-error.
const noSecretKey = 17

// lockedCodes are the errors of libgpg-error that mean: nobody could or would unlock the key.
var lockedCodes = map[int]bool{
	11:  true, // BAD_PASSPHRASE
	31:  true, // INV_PASSPHRASE
	62:  true, // TIMEOUT
	77:  true, // NO_AGENT
	85:  true, // NO_PIN_ENTRY
	86:  true, // PIN_ENTRY
	87:  true, // BAD_PIN
	99:  true, // CANCELED
	177: true, // NO_PASSPHRASE
	198: true, // FULLY_CANCELED
}

// meaning turns status lines (GnuPG doc/DETAILS) into one of our errors.
func meaning(status string, err error) error {
	asked := strings.Contains(status, "[GNUPG:] PINENTRY_LAUNCHED") || strings.Contains(status, "[GNUPG:] NEED_PASSPHRASE")
	for _, line := range strings.Split(status, "\n") {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "[GNUPG:]" {
			continue
		}
		switch f[1] {
		case "INV_SGNR", "NO_SECKEY", "NO_SGNR":
			return fmt.Errorf("gpg cannot sign with it: %w", ErrNoSuchKey)
		case "FAILURE":
			code, _ := strconv.Atoi(f[len(f)-1])
			code &= 0xffff // the upper half names gpg's component
			if code == noSecretKey {
				return fmt.Errorf("gpg cannot sign with it: %w", ErrNoSuchKey)
			}
			if lockedCodes[code] || asked {
				return fmt.Errorf("gpg could not ask for the passphrase; unlock the key in a terminal "+
					"(export GPG_TTY=$(tty); echo | gpg --clearsign) and try again: %w", ErrLocked)
			}
		}
	}
	return fmt.Errorf("%v: %q: %w", err, tail(status), ErrGPG)
}

// tail is the end of gpg's messages, quoted by the caller.
func tail(status string) string {
	const n = 400
	s := strings.TrimSpace(status)
	if len(s) > n {
		s = "..." + s[len(s)-n:]
	}
	return s
}

// capped keeps the first max bytes and swallows the rest.
type capped struct {
	b    bytes.Buffer
	max  int
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if room := c.max - c.b.Len(); len(p) > room {
		c.over = true
		c.b.Write(p[:room])
		return len(p), nil
	}
	return c.b.Write(p)
}

// Package keys keeps secrets in files that only their owner can read, and signs
// with keys that stay in the user's own GnuPG.
//
// It knows no layer and no key format: a secret is bytes, a signature is what
// gpg prints.
package keys

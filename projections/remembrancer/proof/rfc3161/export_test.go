package rfc3161

// SignedParts returns what the token's signature covers, as in the file, and
// the signature.
func SignedParts(t *Token) (content, attrs, signature []byte) {
	return t.content, t.signer.attrs[1:], t.signer.signature
}

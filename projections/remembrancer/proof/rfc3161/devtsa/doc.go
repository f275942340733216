// Package devtsa is a time-stamping authority for development and tests. It
// answers RFC 3161 requests with tokens that openssl verifies.
//
// Its tokens prove nothing to anyone else: whoever holds its key chooses the
// time. So its certificates carry the word "development" in their names, and
// its policy stands under the enterprise number reserved for examples (RFC
// 5612).
package devtsa

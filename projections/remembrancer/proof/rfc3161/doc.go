// Package rfc3161 asks for and checks trusted time-stamps: RFC 3161 tokens in
// CMS SignedData (RFC 5652), with ESSCertID version 1 (RFC 2634) or 2 (RFC
// 5816).
//
// It is pure: bytes in, verdict out. Sending a request, fetching roots and the
// clock are the caller's. A certificate chain is judged at the token's genTime,
// so a token outlives its TSA's certificate; what that leaves open (a TSA key
// stolen later and used to backdate) is closed by recording the token in the
// log at once.
//
// The CMS is read here, strictly as DER, because the library we know
// (digitorus/pkcs7) checks neither content type nor ESSCertID, drops parse
// errors, indexes out of range on short BER and counts in a global variable.
package rfc3161

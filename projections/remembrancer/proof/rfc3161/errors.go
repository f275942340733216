package rfc3161

import (
	"errors"
	"fmt"
	"strings"
)

// The reasons for which a response or token is refused. Every error of this
// package wraps exactly one of them; an error of the caller's reader comes back
// as it is.
var (
	// ErrMalformed: not one DER object of the expected form, or over its cap.
	ErrMalformed = errors.New("malformed time-stamp")
	// ErrRefused: the TSA answered without a token; see [Refusal]. Ask again
	// later, or another TSA.
	ErrRefused = errors.New("time-stamp refused by the TSA")
	// ErrContentType: the signed content is not TSTInfo, or the signature was
	// made for another kind of content.
	ErrContentType = errors.New("signed content is not a time-stamp")
	// ErrSignature: the TSA's signature does not cover these bytes, is of an
	// unsupported or weak kind, or there is not exactly one.
	ErrSignature = errors.New("bad time-stamp signature")
	// ErrCertID: the signed certificate id (ESSCertID) is missing or names
	// another certificate than the signer's.
	ErrCertID = errors.New("time-stamp names another signing certificate")
	// ErrEKU: the certificate is not for time-stamping alone (RFC 3161,
	// section 2.3).
	ErrEKU = errors.New("certificate is not for time-stamping only")
	// ErrChain: no chain from the TSA's certificate to a given root was valid
	// at genTime.
	ErrChain = errors.New("no valid chain to a trusted root at genTime")
	// ErrGenTime: genTime lies outside the TSA certificate's validity or
	// outside the caller's bounds.
	ErrGenTime = errors.New("time-stamp's time is out of bounds")
	// ErrImprint: the token is for other data.
	ErrImprint = errors.New("time-stamp is for other data")
	// ErrNonce: the token answers another request.
	ErrNonce = errors.New("time-stamp answers another request")
	// ErrPolicy: the token was issued under a policy that is not accepted.
	ErrPolicy = errors.New("time-stamp policy not accepted")
)

// Reason returns the sentinel that err wraps, or nil.
func Reason(err error) error {
	for _, r := range []error{ErrMalformed, ErrRefused, ErrContentType, ErrSignature, ErrCertID, ErrEKU, ErrChain, ErrGenTime, ErrImprint, ErrNonce, ErrPolicy} {
		if errors.Is(err, r) {
			return r
		}
	}
	return nil
}

// Failure is a PKIFailureInfo bit, RFC 3161, section 2.4.2.
type Failure int

// The failures that RFC 3161 names; [NoFailure] if the TSA named none.
const (
	NoFailure           Failure = -1
	BadAlgorithm        Failure = 0
	BadRequest          Failure = 2
	BadDataFormat       Failure = 5
	TimeNotAvailable    Failure = 14
	UnacceptedPolicy    Failure = 15
	UnacceptedExtension Failure = 16
	AddInfoNotAvailable Failure = 17
	SystemFailure       Failure = 25
)

var failureNames = map[Failure]string{
	NoFailure: "no failure named", BadAlgorithm: "badAlg", BadRequest: "badRequest", BadDataFormat: "badDataFormat",
	TimeNotAvailable: "timeNotAvailable", UnacceptedPolicy: "unacceptedPolicy", UnacceptedExtension: "unacceptedExtension",
	AddInfoNotAvailable: "addInfoNotAvailable", SystemFailure: "systemFailure",
}

// String is the name in RFC 3161.
func (f Failure) String() string {
	if s, ok := failureNames[f]; ok {
		return s
	}
	return fmt.Sprintf("failure %d", int(f))
}

// Refusal is a TSA's answer without a token. It wraps [ErrRefused].
type Refusal struct {
	Status  int      // PKIStatus: 2 rejection, 3 waiting, 4 and 5 revocation
	Text    []string // the TSA's own words, untrusted
	Failure Failure  // the first bit set
}

// Error quotes the TSA's text: it comes from the network.
func (r *Refusal) Error() string {
	status, ok := map[int]string{2: "rejection", 3: "waiting", 4: "revocationWarning", 5: "revocationNotification"}[r.Status]
	if !ok {
		status = fmt.Sprintf("status %d", r.Status)
	}
	return fmt.Sprintf("%v: %s, %s, %q", ErrRefused, status, r.Failure, strings.Join(r.Text, "; "))
}

// Unwrap returns [ErrRefused].
func (r *Refusal) Unwrap() error { return ErrRefused }

// Package canon gives JSON exactly one byte form: RFC 8785 (JCS) over strict
// I-JSON (RFC 7493), so that a hash of an event means one thing everywhere.
package canon
